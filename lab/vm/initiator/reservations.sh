# shellcheck shell=sh
# A second initiator: reservations and resets.

SECOND=iqn.2026-01.lab.guest:second
second_session() {
  iscsiadm -m iface -I second -o new && iscsiadm -m iface -I second -o update -n iface.initiatorname -v $SECOND || return
  iscsiadm -m iface -I second -o update -n iface.transport_name -v tcp
  login "$KI_portal" "$KI_iqn" second
}
A= B=
out() { # out DEV ACTION...: PERSISTENT RESERVE OUT
  local dev=$1
  shift
  settle "$dev" && sg_persist -n --out "$@" "$dev"
}
keys() { sg_persist -n --in -k "$A" | tee /tmp/keys; }
holds() { sg_persist -n --in -r "$A" | tee /tmp/reservation | grep -qi "$1" || { cat /tmp/reservation; return 1; }; }
KEY_A=0xaaaa KEY_B=0xbbbb
clean() { # nobody is registered
  out "$A" --register-ignore --param-sark=$KEY_A > /dev/null 2>&1
  out "$A" --clear --param-rk=$KEY_A > /dev/null 2>&1
  settle "$A" && settle "$B" && keys | grep -qi 'no registered'
}
registers() {
  clean && out "$A" --register --param-sark=$KEY_A && out "$B" --register --param-sark=$KEY_B && keys | grep -qi aaaa &&
    grep -qi bbbb /tmp/keys && exits $CONFLICT sg_persist -n --out --register --param-rk=0x1 --param-sark=0x2 "$A"
}
reserves() { # reserves TYPE: who may do what, while B is not registered and then is (SPC-4, table of reservations)
  local type=$1 read_code=0 registered_code=0
  case $type in 3 | 6 | 8) read_code=$CONFLICT ;; esac
  case $type in 1 | 3) registered_code=$CONFLICT ;; esac
  clean && out "$A" --register --param-sark=$KEY_A && out "$A" --reserve --param-rk=$KEY_A --prout-type="$type" || return 1
  holds 'type:' && settle "$B" && write_to "$A" && exits $CONFLICT write_to "$B" && exits $read_code read_from "$B" || return 1
  out "$B" --register --param-sark=$KEY_B && settle "$B" && exits $registered_code write_to "$B" || return 1
  # With "all registrants" B holds it too; else only A may end it.
  exits "$([ "$type" -ge 7 ] && echo 0 || echo $CONFLICT)" out "$B" --reserve --param-rk=$KEY_B --prout-type="$type" || return 1
  out "$A" --release --param-rk=$KEY_A --prout-type="$type" && settle "$B" && write_to "$B" && clean
}
preempts() { # preempts --preempt|--preempt-abort
  clean && out "$A" --register --param-sark=$KEY_A && out "$B" --register --param-sark=$KEY_B &&
    out "$A" --reserve --param-rk=$KEY_A --prout-type=5 && out "$B" "$1" --param-rk=$KEY_B --param-sark=$KEY_A --prout-type=3 || return 1
  settle "$A"
  keys | grep -qi aaaa && { echo "A is registered still"; return 1; }
  holds 'exclusive access' && exits $CONFLICT write_to "$A" && write_to "$B" &&
    out "$B" --release --param-rk=$KEY_B --prout-type=3 && clean
}
tells_preempted() { # the one whose key was taken hears of it: 2A/05
  clean && out "$A" --register --param-sark=$KEY_A && out "$B" --register --param-sark=$KEY_B &&
    out "$B" --preempt --param-rk=$KEY_B --param-sark=$KEY_A && exits $UNIT_ATTENTION sg_turs -v "$A" && clean
}
full_status() {
  clean && out "$A" --register --param-sark=$KEY_A && out "$B" --register --param-sark=$KEY_B && sg_persist -n --in -s "$A" | tee /tmp/full &&
    grep -q $SECOND /tmp/full && clean
}
moves() { # A gives registration and reservation to B's port
  local isid
  isid=$(iscsiadm -m session -r "$SECOND_SID" -P 3 | sed -n 's/.*ISID: *//p' | head -n 1)
  clean && out "$A" --register --param-sark=$KEY_A && out "$A" --reserve --param-rk=$KEY_A --prout-type=1 &&
    sg_persist -n --out --register-move --param-rk=$KEY_A --param-sark=$KEY_B --relative-target-port=1 \
      --transport-id="$SECOND,i,0x${isid:-00023d000002}" "$A" || return 1
  settle "$B" && write_to "$B" && exits $CONFLICT write_to "$A" && out "$B" --release --param-rk=$KEY_B --prout-type=1 && clean
}
await_io() { # the kernel comes back by itself
  for _ in $(seq 80); do settle "$1" > /dev/null 2>&1 && read_from "$1" > /dev/null 2>&1 && return 0; usleep 500000; done
  echo "$1 does not come back"
  return 1
}
survives_restart() { # APTPL: registration and reservation outlive the target
  clean && out "$A" --register --param-sark=$KEY_A --param-aptpl && out "$B" --register --param-sark=$KEY_B --param-aptpl &&
    out "$A" --reserve --param-rk=$KEY_A --prout-type=1 && host crash && await_io "$A" && await_io "$B" || return 1
  keys | grep -qi aaaa && grep -qi bbbb /tmp/keys && holds 'write exclusive' && exits $CONFLICT write_to "$B" && write_to "$A" && clean
}
forgets_at_restart() { # without APTPL nothing is left
  clean && out "$A" --register --param-sark=$KEY_A && host crash && await_io "$A" && await_io "$B" && keys | grep -qi 'no registered'
}
old_reserve() { # RESERVE(6) and RELEASE(6), as VMFS uses them
  settle "$A" && settle "$B" && sg_raw "$A" 16 00 00 00 00 00 && exits $CONFLICT read_from "$B" && sg_raw "$B" 17 00 00 00 00 00 &&
    exits $CONFLICT read_from "$B" && sg_raw "$A" 17 00 00 00 00 00 && read_from "$B"
}
hears_of_reset() { # a LUN RESET is told to the others: 29h
  settle "$B" && sg_reset -d -N "$A" && exits $UNIT_ATTENTION sg_turs -v "$B" && settle "$B" && settle "$A"
}
reset_frees() { # and ends a RESERVE(6)
  sg_raw "$B" 16 00 00 00 00 00 && exits $CONFLICT read_from "$A" && sg_reset -d -N "$A" && settle "$A" && read_from "$A" && settle "$B"
}
reset_during_io() {
  local writers= k
  for k in 1 2 3 4; do
    dd if=/tmp/pattern of="$A" bs=256k count=48 seek=$((400 + k * 48)) oflag=direct conv=notrunc > /tmp/dd$k 2>&1 &
    writers="$writers $!"
  done
  sg_reset -d -N "$A"
  sg_reset -d -N "$A"
  wait $writers
  for k in 1 2 3 4; do
    [ "$(dd if="$A" bs=256k skip=$((400 + k * 48)) count=48 iflag=direct 2> /dev/null | sha256sum)" = "$SUM" ] || { cat /tmp/dd$k; return 1; }
  done
}
if wants reservations || wants reset; then
  if step login-second-initiator second_session; then
    SECOND_SID=$SID B=$DEV
    as_first
    A=$DEV
    if wants reservations; then
      step reservations-capabilities sg_persist -n --in -c "$A"
      quote < /tmp/out
      step reservations-register registers
      for type in 1 3 5 6 7 8; do step reservations-type-$type reserves $type; done
      step reservations-preempt preempts --preempt
      step reservations-preempt-abort preempts --preempt-abort
      step reservations-preempted-is-told tells_preempted
      step reservations-full-status full_status
      step reservations-register-move moves
      step reservations-through-power-loss survives_restart
      step reservations-without-aptpl forgets_at_restart
      step reserve-6 old_reserve
    fi
    if wants reset; then
      step lun-reset sg_reset -d -N "$A"
      settle "$A" > /dev/null 2>&1
      step lun-reset-told-to-others hears_of_reset
      step lun-reset-ends-reserve reset_frees
      step lun-reset-during-io reset_during_io
      step target-reset sg_reset -t -N "$A"
      settle "$A" > /dev/null 2>&1
    fi
    step logout-second-initiator logout "$KI_portal" "$KI_iqn" second
    # It had taken the place of the first one's record.
    iscsiadm -m node -T "$KI_iqn" -p "$KI_portal" -o delete
    new_node "$KI_portal" "$KI_iqn"
  fi
  as_first
  step checksums-after-resets sums
fi
