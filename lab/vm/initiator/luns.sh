# shellcheck shell=sh
# LUNs of other kinds.

on_lun() { # on_lun LUN COMMAND...: a disk of the other target, as $DISK and $DEV
  local LUN=$1 failed=0
  shift
  DISK=$(await_disk "$SID") || { echo "no disk at LUN $LUN"; return 1; }
  DEV=/dev/$DISK
  tell_disk
  MIB_BLOCKS=$((1048576 / $(block)))
  "$@" || failed=1
  return $failed
}
login_others() { # all of its LUNs are disks of one session
  new_node "${KI_others%%,*}" "${KI_others#*,}" && iscsiadm -m node -T "${KI_others#*,}" -p "${KI_others%%,*}" --login &&
    SID=$(sessions | tail -n 1)
}
long_blocks() {
  local failed=0
  cp /tmp/sums /tmp/sums.main
  [ "$(block)" = 4096 ] && write_and_read && last_blocks && mkfs && files && sums && fsck && write_same 16 &&
    compare_and_write && compare_and_write_miscompares && unmaps_blocks || failed=1
  mv /tmp/sums.main /tmp/sums
  return $failed
}
unmaps_blocks() { fill 64 1 && sg_unmap --force --lba=$((64 * MIB_BLOCKS)) --num=$MIB_BLOCKS "$DEV" && reads_zeros 64 1; }
refuses_writes() {
  [ "$(cat "/sys/block/$DISK/ro")" = 1 ] && exits $WRITE_PROTECTED write_to "$(generic)" &&
    sg_modes "$(generic)" | tee /tmp/modes && grep -q 'WP=1' /tmp/modes && read_from "$(generic)"
}
ejects() { # through the generic device: Linux itself prevents removal while the disk is open
  local sg
  sg=$(generic)
  [ "$(cat "/sys/block/$DISK/removable")" = 1 ] && settle "$sg" && sg_prevent --prevent=1 "$sg" && exits $ILLEGAL_REQUEST sg_start --eject "$sg" &&
    sg_prevent --allow "$sg" && sg_start --eject "$sg" && exits $NOT_READY sg_turs "$sg" && sg_start --load "$sg" && settle "$sg" && read_from "$sg"
}
if wants luns && [ -n "$KI_others" ]; then
  if step login-other-target login_others; then
    OTHERS_SID=$SID
    [ -z "$KI_long" ] || step blocks-of-4096 on_lun "$KI_long" long_blocks
    SID=$OTHERS_SID
    [ -z "$KI_readonly" ] || step read-only on_lun "$KI_readonly" refuses_writes
    [ -z "$KI_removable" ] || step removable on_lun "$KI_removable" ejects
    step logout-other-target logout "${KI_others%%,*}" "${KI_others#*,}"
  fi
  as_first
fi
