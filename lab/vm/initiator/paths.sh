# shellcheck shell=sh
# Two paths to one unit.

same_unit() { # the second path leads to the same unit through another port
  login "$KI_portal2" "$KI_iqn" || return 1
  OTHER=$DISK OTHER_SID=$SID
  as_first
  [ "$(sg_vpd -q -i -p 0x80 "$DEV")" = "$(sg_vpd -q -i -p 0x80 "/dev/$OTHER")" ] || return 1
  sg_vpd -p di_lu "$DEV" > /tmp/lu1 && sg_vpd -p di_lu "/dev/$OTHER" | sed "s/$OTHER/$DISK/" > /tmp/lu2 && cat /tmp/lu1 && cmp /tmp/lu1 /tmp/lu2 || return 1
  sg_vpd -p di_port "$DEV" > /tmp/port1 && sg_vpd -p di_port "/dev/$OTHER" > /tmp/port2 && cat /tmp/port2
}
# Two MiB each time: in an emulated guest dm-multipath hands on some hundred requests a second.
multipath() {
  dmsetup create mp --table "0 $(size) multipath 1 queue_if_no_path 0 1 1 round-robin 0 2 1 $(cat "/sys/block/$DISK/dev") 1 $(cat "/sys/block/$OTHER/dev") 1" || return 1
  dmsetup mknodes
  dmsetup status mp
  head -c 2097152 /tmp/pattern > /tmp/two
  writes_mp && reads_mp
}
writes_mp() { dd if=/tmp/two of=/dev/mapper/mp bs=1M seek=100 oflag=direct conv=notrunc,fsync; }
reads_mp() { dd if=/dev/mapper/mp bs=1M skip=100 count=2 iflag=direct 2> /dev/null | cmp - /tmp/two; }
fails_over() { # a path dies while the device is in use; then it comes back and the other dies
  dmsetup message mp 0 "fail_path $(cat "/sys/block/$OTHER/dev")" && reads_mp && dmsetup message mp 0 "reinstate_path $(cat "/sys/block/$OTHER/dev")" || return 1
  (sleep 1; logout "$KI_portal2" "$KI_iqn") > /dev/null 2>&1 &
  local leaver=$!
  for _ in 1 2 3 4; do
    writes_mp && reads_mp || return 1
    usleep 300000
  done
  wait $leaver
  dmsetup status mp
}
if wants multipath && [ -n "$KI_portal2" ]; then
  if step two-portals-one-unit same_unit; then
    tail -n 6 /tmp/out | quote
    step multipath multipath
    step multipath-failover fails_over
    tail -n 1 /tmp/out | quote
    dmsetup remove mp
  fi
fi
