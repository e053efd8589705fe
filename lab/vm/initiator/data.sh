# shellcheck shell=sh
# Data and a file system, in the first 56 MiB; what lies behind is scratch space for the other steps.

dd if=/dev/urandom of=/tmp/pattern bs=1M count=12 2> /dev/null
SUM=$(sha256sum < /tmp/pattern)
uncached() { dd if="$1" bs="$2" count=12582912 iflag=direct,count_bytes 2> /dev/null; }
write_and_read() { # written with one size, read with another
  local pair
  for pair in "8k 1M" "64k 8k" "4M 64k" "1M 4M"; do
    set -- $pair
    dd if=/tmp/pattern of="$DEV" bs="$1" oflag=direct conv=notrunc,fsync || return 1
    [ "$(uncached "$DEV" "$2" | sha256sum)" = "$SUM" ] || { echo "not what was written: $pair"; return 1; }
  done
}
parallel_writers() { # eight at once, each its own part
  local writers= k
  for k in 0 1 2 3 4 5 6 7; do
    dd if=/tmp/pattern of="$DEV" bs=32k skip=$((k * 48)) seek=$((k * 48 + 2048)) count=48 oflag=direct conv=notrunc 2> /dev/null &
    writers="$writers $!"
  done
  wait $writers
  [ "$(dd if="$DEV" bs=32k skip=2048 count=384 iflag=direct 2> /dev/null | sha256sum)" = "$SUM" ]
}
last_blocks() {
  local at=$(($(size) / 8 - 1))
  dd if=/tmp/pattern of="$DEV" bs=4k count=1 seek=$at oflag=direct conv=notrunc &&
    [ "$(dd if="$DEV" bs=4k skip=$at iflag=direct 2> /dev/null | sha256sum)" = "$(head -c 4096 /tmp/pattern | sha256sum)" ]
}
mkfs() { /usr/sbin/mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=1 "$DEV" 56M; }
files() {
  local i
  mount -t ext4 "$DEV" /mnt || return 1
  mkdir -p /mnt/d
  for i in $(seq 40); do dd if=/tmp/pattern of=/mnt/d/f"$i" bs=1k skip=$((i * 251)) count=$((i * 7)) 2> /dev/null; done
  cp /tmp/pattern /mnt/big
  cp -r /etc /mnt/etc
  (cd /mnt && find . -type f ! -name SUMS -exec md5sum {} + > /tmp/sums && cp /tmp/sums SUMS)
  sync
  umount /mnt
}
sums() { # after a remount the files are what they were
  local failed=0
  echo 3 > /proc/sys/vm/drop_caches
  mount -t ext4 "$DEV" /mnt || return 1
  (cd /mnt && md5sum -c SUMS > /tmp/checked 2>&1 && cmp SUMS /tmp/sums) || failed=1
  grep -v ': OK' /tmp/checked
  umount /mnt
  return $failed
}
fsck() { /usr/sbin/e2fsck -fn "$DEV"; }
hash_of() { dd if="$DEV" bs=1M skip="$1" count="$2" iflag=direct 2> /dev/null | sha256sum; }
zeros_of() { dd if=/dev/zero bs=1M count="$1" 2> /dev/null | sha256sum; }
if wants data; then
  step direct-writes-and-reads write_and_read
  step parallel-writers parallel_writers
  step last-blocks last_blocks
  step fua-and-dpo sg_dd if=/tmp/pattern of="$DEV" bs="$(block)" bpt=64 count=512 oflag=fua,dpo,sgio blk_sgio=1
fi
step mkfs mkfs
step mount-and-write-files files
step remount-and-checksums sums
step fsck fsck
