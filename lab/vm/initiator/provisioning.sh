# shellcheck shell=sh
# Thin provisioning, and the commands that do two things at once. From 64 MiB on, behind the file system, the disk is scratch space.

fill() { dd if=/tmp/pattern of="$DEV" bs=1M seek="$1" count="$2" oflag=direct conv=notrunc,fsync 2>&1; }
allocated() { host allocated; }
gives_back() { # gives_back COMMAND...: the file outside holds less afterwards
  local before after
  before=$(allocated) || return 1
  "$@" || return 1
  after=$(allocated) || return 1
  echo "allocated outside: $before, then $after bytes"
  [ "$after" -lt "$before" ]
}
reads_zeros() { [ "$(hash_of "$1" "$2")" = "$(zeros_of "$2")" ] || { echo "not zeros at $1 MiB"; return 1; }; }
scsi_unmap() { fill 64 4 && gives_back sg_unmap --force --lba=$((64 * MIB_BLOCKS)) --num=$((4 * MIB_BLOCKS)) "$DEV" && reads_zeros 64 4; }
lba_status() {
  fill 64 1 && sg_get_lba_status --lba=$((64 * MIB_BLOCKS)) "$DEV" | tee /tmp/status && grep -qi 'mapped' /tmp/status &&
    sg_unmap --force --lba=$((64 * MIB_BLOCKS)) --num=$MIB_BLOCKS "$DEV" &&
    sg_get_lba_status --lba=$((64 * MIB_BLOCKS)) "$DEV" | tee /tmp/status && grep -qi 'deallocated' /tmp/status
}
discards() { fill 72 4 && gives_back /usr/sbin/blkdiscard -f -o $((72 << 20)) -l $((4 << 20)) "$DEV" && reads_zeros 72 4; }
zeroes_out() { fill 76 2 && /usr/sbin/blkdiscard -f -z -o $((76 << 20)) -l $((2 << 20)) "$DEV" && reads_zeros 76 2; }
write_same() { # write_same 10|16
  head -c "$(block)" /tmp/pattern > /tmp/one
  fill 80 1 && sg_write_same "--$1" --lba=$((80 * MIB_BLOCKS)) --num=8 --in=/tmp/one --xferlen="$(block)" "$DEV" || return 1
  for _ in 1 2 3 4 5 6 7 8; do cat /tmp/one; done | sha256sum > /tmp/want
  dd if="$DEV" bs="$(block)" skip=$((80 * MIB_BLOCKS)) count=8 iflag=direct 2> /dev/null | sha256sum | cmp - /tmp/want
}
write_same_unmap() { fill 84 2 && gives_back sg_write_same --16 --unmap --lba=$((84 * MIB_BLOCKS)) --num=$((2 * MIB_BLOCKS)) --in=/dev/zero --xferlen="$(block)" "$DEV" && reads_zeros 84 2; }
write_same_ndob() { fill 84 1 && sg_write_same --16 --ndob --lba=$((84 * MIB_BLOCKS)) --num=$MIB_BLOCKS "$DEV" && reads_zeros 84 1; }
trims() { # a file is deleted, fstrim gives its space back
  mount -t ext4 "$DEV" /mnt || return 1
  dd if=/dev/urandom of=/mnt/garbage bs=1M count=16 conv=fsync 2> /dev/null
  rm /mnt/garbage
  sync
  gives_back /usr/sbin/fstrim -v /mnt
  local failed=$?
  umount /mnt
  return $failed
}
if wants thin; then
  step get-lba-status lba_status
  step unmap scsi_unmap
  grep allocated /tmp/out | quote
  step blkdiscard discards
  grep allocated /tmp/out | quote
  step blkdiscard-zeroout zeroes_out
  step write-same-10 write_same 10
  step write-same-16 write_same 16
  step write-same-16-unmap write_same_unmap
  step write-same-16-no-data write_same_ndob
  step fstrim trims
  grep -E 'allocated|trimmed' /tmp/out | quote
  step checksums-after-trimming sums
fi
compare_and_write() {
  head -c "$(block)" /tmp/pattern > /tmp/old
  tail -c "$(block)" /tmp/pattern > /tmp/new
  dd if=/tmp/old of="$DEV" bs="$(block)" seek=$((88 * MIB_BLOCKS)) oflag=direct conv=notrunc 2> /dev/null
  cat /tmp/old /tmp/new > /tmp/both
  sg_compare_and_write --lba=$((88 * MIB_BLOCKS)) --num=1 --in=/tmp/both --xferlen=$(($(block) * 2)) "$DEV" || return 1
  dd if="$DEV" bs="$(block)" skip=$((88 * MIB_BLOCKS)) count=1 iflag=direct 2> /dev/null | cmp - /tmp/new
}
compare_and_write_miscompares() { # what is there is the new block now, and stays
  exits $MISCOMPARE sg_compare_and_write --lba=$((88 * MIB_BLOCKS)) --num=1 --in=/tmp/both --xferlen=$(($(block) * 2)) "$DEV" &&
    dd if="$DEV" bs="$(block)" skip=$((88 * MIB_BLOCKS)) count=1 iflag=direct 2> /dev/null | cmp - /tmp/new
}
or_write() {
  dd if=/dev/zero bs="$(block)" count=1 2> /dev/null | tr '\000' '\017' > /tmp/low
  dd if=/dev/zero bs="$(block)" count=1 2> /dev/null | tr '\000' '\360' > /tmp/high
  dd if=/dev/zero bs="$(block)" count=1 2> /dev/null | tr '\000' '\377' > /tmp/full
  dd if=/tmp/low of="$DEV" bs="$(block)" seek=$((89 * MIB_BLOCKS)) oflag=direct conv=notrunc 2> /dev/null
  sg_write_x --or --16 --lba=$((89 * MIB_BLOCKS)) --num=1 --in=/tmp/high --bs="$(block)" "$DEV" &&
    dd if="$DEV" bs="$(block)" skip=$((89 * MIB_BLOCKS)) count=1 iflag=direct 2> /dev/null | cmp - /tmp/full
}
verify_bytes() {
  fill 90 1
  head -c "$(block)" /tmp/pattern > /tmp/one
  sg_verify --lba=$((90 * MIB_BLOCKS)) --count=16 "$DEV" && sg_verify --16 --lba=$((90 * MIB_BLOCKS)) --count=16 "$DEV" &&
    sg_verify --16 --bytchk=1 --ndo="$(block)" --in=/tmp/one --lba=$((90 * MIB_BLOCKS)) --count=1 "$DEV" &&
    exits $MISCOMPARE sg_verify --16 --bytchk=1 --ndo="$(block)" --in=/tmp/one --lba=$((90 * MIB_BLOCKS + 1)) --count=1 "$DEV"
}
write_and_verify() {
  sg_write_verify --16 --lba=$((91 * MIB_BLOCKS)) --num=1 --ilen="$(block)" --in=/tmp/one "$DEV" &&
    dd if="$DEV" bs="$(block)" skip=$((91 * MIB_BLOCKS)) count=1 iflag=direct 2> /dev/null | cmp - /tmp/one
}
third_party_copy() {
  fill 92 1
  sg_xcopy if="$(generic)" of="$(generic)" bs="$(block)" skip=$((92 * MIB_BLOCKS)) seek=$((94 * MIB_BLOCKS)) count=$MIB_BLOCKS &&
    [ "$(hash_of 92 1)" = "$(hash_of 94 1)" ]
}
if wants atomic; then
  step compare-and-write compare_and_write
  step compare-and-write-miscompare compare_and_write_miscompares
  step or-write or_write
  step verify verify_bytes
  step write-and-verify write_and_verify
  step extended-copy third_party_copy
  step receive-copy-results sg_copy_results -p "$DEV"
fi
