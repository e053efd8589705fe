# shellcheck shell=sh
# LUNs of other kinds.

with() { # with PORTAL,IQN COMMAND...
  local portal=${1%%,*} iqn=${1#*,} failed=0
  shift
  login "$portal" "$iqn" || return 1
  tell_disk
  MIB_BLOCKS=$((1048576 / $(block)))
  "$@" || failed=1
  logout "$portal" "$iqn" || failed=1
  as_first
  MIB_BLOCKS=$((1048576 / $(block)))
  return $failed
}
long_blocks() {
  [ "$(block)" = 4096 ] && write_and_read && last_blocks && mkfs && files && sums && fsck && write_same 16 &&
    compare_and_write && scsi_unmap_plain
}
scsi_unmap_plain() { fill 64 1 && sg_unmap --force --lba=$((64 * MIB_BLOCKS)) --num=$MIB_BLOCKS "$DEV" && reads_zeros 64 1; }
refuses_writes() {
  [ "$(cat "/sys/block/$DISK/ro")" = 1 ] && exits $WRITE_PROTECTED write_to "$DEV" && sg_modes "$DEV" | tee /tmp/modes | grep -q 'WP=1' && read_lba 0 1 > /dev/null
}
ejects() {
  [ "$(cat "/sys/block/$DISK/removable")" = 1 ] && sg_prevent --prevent=1 "$DEV" && exits $ILLEGAL_REQUEST sg_start --eject "$DEV" &&
    sg_prevent --allow "$DEV" && sg_start --eject "$DEV" && exits $NOT_READY sg_turs "$DEV" && sg_start --load "$DEV" && settle "$DEV" && read_lba 0 1 > /dev/null
}
if wants luns; then
  [ -z "$KI_long" ] || step blocks-of-4096 with "$KI_long" long_blocks
  [ -z "$KI_readonly" ] || step read-only with "$KI_readonly" refuses_writes
  [ -z "$KI_removable" ] || step removable with "$KI_removable" ejects
fi
