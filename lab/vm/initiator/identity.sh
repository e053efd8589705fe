# shellcheck shell=sh
# What the unit says about itself.

listed_pages() { # every page that VPD 00h names can be read and decoded
  local page
  for page in $(xxd -p "/sys/block/$DISK/device/vpd_pg0" | tr -d '\n' | sed 's/^........//; s/../& /g'); do
    echo "page $page"
    sg_vpd -p "0x$page" "$DEV" || return 1
  done
}
# The target's own relative port and group, and a world-wide name.
device_identification() {
  sg_vpd -p 0x83 "$DEV" > /tmp/83 || return
  cat /tmp/83
  grep -q NAA /tmp/83 && grep -qi 'relative target port' /tmp/83 && grep -qi 'target port group' /tmp/83
}
opcode_bitmap() { # a command by its code, and one by its service action
  sg_opcodes -n --opcode=0x88 "$DEV" | tee /tmp/bitmap && sg_opcodes -n --opcode=0x9e,0x10 "$DEV" | tee -a /tmp/bitmap
  [ "$(grep -c 'Usage data' /tmp/bitmap)" = 2 ]
}
read_lba() { # read_lba LBA BLOCKS
  sg_raw -r $(($(block) * $2)) "$DEV" 88 00 $(hex "$1") $(printf '%08x' "$2" | sed 's/../& /g') 00 00
}
past_the_end() { exits $LBA_OUT_OF_RANGE read_lba $(($(size) * 512 / $(block) + 100)) 1; }
unknown_opcode() { exits $INVALID_OPCODE sg_raw "$DEV" ff 00 00 00 00 00; }
if wants identity; then
  step test-unit-ready sg_turs "$DEV"
  step inquiry sg_inq "$DEV"
  grep -iE 'vendor|product|revision|version=' /tmp/out | quote
  step vpd-00-supported sg_vpd -p 0 "$DEV"
  step vpd-80-serial sg_vpd -p 0x80 "$DEV"
  step vpd-83-identification device_identification
  quote < /tmp/83
  step vpd-86-extended-inquiry sg_vpd -p 0x86 "$DEV"
  step vpd-b0-block-limits sg_vpd -p 0xb0 "$DEV"
  grep -iE 'maximum|optimal' /tmp/out | quote
  step vpd-b1-characteristics sg_vpd -p 0xb1 "$DEV"
  step vpd-b2-provisioning sg_vpd -p 0xb2 "$DEV"
  step vpd-every-listed-page listed_pages
  step report-luns sg_luns "$DEV"
  step read-capacity-10 sg_readcap "$DEV"
  step read-capacity-16 sg_readcap -l "$DEV"
  step mode-sense-all-6 sg_modes -a -6 "$DEV"
  step mode-sense-all-10 sg_modes -a "$DEV"
  step mode-caching-page sg_modes -p 8 "$DEV"
  step mode-control-page sg_modes -p 0xa "$DEV"
  step mode-exceptions-page sg_modes -p 0x1c "$DEV"
  step log-sense sg_logs -a "$DEV"
  step supported-opcodes sg_opcodes -n "$DEV"
  grep -c . /tmp/out | quote
  step supported-opcode-bitmap opcode_bitmap
  step supported-task-management sg_opcodes -n -t "$DEV"
  step port-groups sg_rtpg "$DEV"
  step request-sense sg_requests "$DEV"
  step start-stop-unit sg_start --start "$DEV"
  step synchronize-cache sg_sync "$DEV"
  step synchronize-cache-16 sg_sync --16 "$DEV"
  step read-past-the-end-refused past_the_end
  step unknown-opcode-refused unknown_opcode
fi
