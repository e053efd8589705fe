# shellcheck shell=sh
# Sessions: digests, a disk that grows, a target that restarts.

log_in_first() { log_in_again "$KI_portal" "$KI_iqn" && FIRST_SID=$SID; }
relogin() { logout "$KI_portal" "$KI_iqn" && ! [ -e "/sys/block/$DISK" ] && log_in_first && sums; }
digests() { # digests HEADER DATA: what is demanded is what the session has
  logout "$KI_portal" "$KI_iqn"
  set_node "$KI_portal" "$KI_iqn" 'node.conn[0].iscsi.HeaderDigest' "$1" && set_node "$KI_portal" "$KI_iqn" 'node.conn[0].iscsi.DataDigest' "$2" &&
    log_in_first && iscsiadm -m session -r "$SID" -P 2 | grep Digest | tee /tmp/digests || return 1
  grep -q "HeaderDigest: ${1%%,*}" /tmp/digests && grep -q "DataDigest: ${2%%,*}" /tmp/digests && sums && write_big
}
write_big() {
  dd if=/tmp/pattern of="$DEV" bs=1M seek=100 oflag=direct conv=notrunc 2> /dev/null &&
    [ "$(hash_of 100 12)" = "$SUM" ]
}
if wants sessions; then
  step logout-and-login relogin
  step digest-header digests CRC32C None
  step digest-data digests None CRC32C
  step digest-both digests CRC32C CRC32C
  step digest-offered digests CRC32C,None CRC32C,None
  step digest-none digests None None
fi
resizes() { # the size is seen, and the unit attention came: CAPACITY DATA HAS CHANGED
  local old
  old=$(size)
  settle "$DEV" && host resize && exits $UNIT_ATTENTION sg_turs -v "$DEV" && grows_to "$old"
}
grows_to() {
  local new
  for _ in $(seq 20); do
    echo 1 > "/sys/block/$DISK/device/rescan"
    new=$(size)
    [ "$new" -gt "$1" ] && { echo "$1 -> $new sectors"; /usr/sbin/e2fsck -fp "$DEV"; /usr/sbin/resize2fs "$DEV" 62M && sums; return; }
    usleep 500000
  done
  echo "still $new sectors"
  return 1
}
if wants resize; then
  step resize-and-rescan resizes
  grep -e '->' /tmp/out | quote
fi
restarts() { # a file system is written to while the target is gone for a moment
  local i failed=0
  mount -t ext4 "$DEV" /mnt || return 1
  (for i in $(seq 24); do dd if=/tmp/pattern of=/mnt/r"$i" bs=64k count=8 conv=fsync 2> /dev/null || exit 1; usleep 250000; done) &
  usleep 800000
  host restart || failed=1
  wait $! || failed=1
  sync
  umount /mnt || failed=1
  [ $failed = 0 ] && sums && fsck
}
if wants restart; then
  step target-restart-during-io restarts
  dmesg | grep -E 'connection[0-9]+:0|session recovery|Buffer I/O' | tail -n 4 | quote
fi
