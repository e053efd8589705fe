# shellcheck shell=sh
# Works on a disk and compares every byte, as it is told through the second serial port: see work-guest.
exec 3<> /dev/ttyS1
stty raw -echo <&3
case $KI_work in
linux)
  attached() {
    new_node "$KI_portal" "$KI_iqn" && set_node "$KI_portal" "$KI_iqn" node.session.timeo.replacement_timeout -1 &&
      log_in_again "$KI_portal" "$KI_iqn" && tell_session && tell_disk &&
      echo "${KI_timeout:-30}" > "/sys/block/$DISK/device/timeout"
  }
  ;;
qemu)
  attached() {
    modprobe virtio_blk || return
    for _ in $(seq 40); do [ -b /dev/vda ] && break; usleep 250000; done
    DEV=/dev/vda
    [ -b $DEV ]
  }
  ;;
esac
if step attached attached; then
  quote < /tmp/out
  echo '"ready"' >&3
  disk_work use "$DEV" "$KI_seed" <&3 >&3 2> /dev/console
  # What a kernel says of a disk that fails.
  dmesg | grep -E 'I/O error|critical .* error|Medium Error|rejecting I/O|Call Trace|BUG:' > /tmp/errors
  head -n 8 /tmp/errors | quote
  echo "{\"kernel_errors\":$(wc -l < /tmp/errors)}" >&3
else
  echo '"no disk"' >&3
fi
bye
