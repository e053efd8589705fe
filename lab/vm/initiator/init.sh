#!/bin/busybox sh
# /init of the initiator's guest: see kernel-initiator-test, which passes the parameters on the kernel's command line:
#   ki.portal=IP:PORT ki.iqn=IQN ki.lun=N   the LUN that is written to        ki.portal2=IP:PORT  another portal of it
#   ki.chap=IP:PORT,IQN                     the same behind CHAP, one-way and mutual; ki.strict: with SHA3-256 alone
#   ki.others=IP:PORT,IQN                   a target with other LUNs: ki.long=N ki.removable=N ki.readonly=N
#   ki.visits=1                             goes wherever the machine outside says, and does nothing else: visits.sh
#   ki.work=qemu|linux ki.seed=N            works on a disk, as it is told through the second serial port, and nothing else: work.sh
#   ki.tests=GROUP,...   ki.without=STEP,...: what the target does not claim to support, by the caller's word
# A step is named here once, passes or fails, and says why. `host CALL` asks the machine outside to do something.
export PATH=/usr/sbin:/usr/bin LD_LIBRARY_PATH=/usr/lib
/usr/bin/busybox --install -s /usr/bin 2> /dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=300m tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/lock/iscsi /dev/pts /var/lib /mnt /run/lock
ln -sf /run/lock /var/lock 2> /dev/null
ln -sf /run /var/run 2> /dev/null
for word in $(cat /proc/cmdline); do
  case $word in ki.*) name=${word%%=*}; eval "KI_${name#ki.}='${word#*=}'" ;; esac
done
LUN=${KI_lun:-0}
FAILED=0

say() { echo "KERNEL-INITIATOR: $*"; }
quote() { sed 's/^/    | /'; }
step() { # step NAME COMMAND...
  local name=$1
  shift
  case ",$KI_without," in *",$name,"*) say "$name skip"; return 1 ;; esac
  echo "BEGIN: $name ($(cut -d' ' -f1 /proc/uptime) s)"
  if "$@" > /tmp/out 2>&1; then
    say "$name ok"
    return 0
  fi
  FAILED=$((FAILED + 1))
  say "$name FAIL"
  tail -n 14 /tmp/out | quote
  return 1
}
wants() { case ",$KI_tests," in *",$1,"* | *,all,*) return 0 ;; esac; return 1; }
bye() {
  if [ $FAILED = 0 ]; then say "RESULT ok"; else say "RESULT FAIL ($FAILED steps)"; fi
  sync
  sleep 1
  poweroff -f
}
host() { # host CALL: the answer's first line is an exit code, the rest is printed
  echo call >> /tmp/calls
  local number
  number=$(wc -l < /tmp/calls)
  echo "HOSTCALL: $number $*" > /dev/console
  for _ in $(seq 120); do
    if tftp -g -r "answer-$number" -l /tmp/answer 10.0.2.2 > /dev/null 2>&1; then
      tail -n +2 /tmp/answer
      return "$(head -n 1 /tmp/answer)"
    fi
    usleep 250000
  done
  echo "no answer to $*"
  return 1
}
exits() { # exits CODE COMMAND...: it ends with exactly this exit code (sg3_utils has one for each kind of sense)
  local want=$1 got=0
  shift
  "$@" || got=$?
  [ $got = "$want" ] || { echo "exit code $got instead of $want: $*"; return 1; }
}
# Exit codes of sg3_utils.
ILLEGAL_REQUEST=5 UNIT_ATTENTION=6 WRITE_PROTECTED=7 INVALID_OPCODE=9 MISCOMPARE=14 LBA_OUT_OF_RANGE=22 CONFLICT=24
NOT_READY=2

# --- start
modules() {
  local m
  for m in virtio_pci virtio_net virtio_rng sd_mod sg crc32c_generic iscsi_tcp dm-mod dm-multipath dm-round-robin ext4; do
    modprobe $m || case $m in virtio_rng | crc32c_generic | ext4) ;; *) return 1 ;; esac
  done
}
network() {
  for _ in $(seq 30); do [ -e /sys/class/net/eth0 ] && break; usleep 200000; done
  ip link set lo up && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2
}
say "kernel $(uname -r), portal $KI_portal, target $KI_iqn"
step modules modules || bye
step network network || bye
iscsid -f -d 4 > /tmp/iscsid.log 2>&1 &
for _ in $(seq 40); do iscsiadm -m session > /dev/null 2>&1; [ $? = 21 ] && break; usleep 100000; done

# --- sessions: $SID, $DISK and $DEV are those of the last login
discover() { iscsiadm -m discoverydb -t st -p "$1" --discover -o nonpersistent; }
discovers() { discover "$1" | tee /tmp/found; grep -q " $2\$" /tmp/found; }
disk_of() { # disk_of SID: its block device of $LUN
  local disk
  for disk in /sys/class/iscsi_session/session"$1"/device/target*/*:*:*:"$LUN"/block/*; do
    [ -e "$disk" ] && { basename "$disk"; return 0; }
  done
  return 1
}
sessions() { ls /sys/class/iscsi_session | sed s/session// | sort -n; }
await_disk() { # await_disk SID
  local disk
  for _ in $(seq 80); do
    disk=$(disk_of "$1") && [ -b "/dev/$disk" ] && [ "$(cat "/sys/block/$disk/size")" -gt 0 ] && { echo "$disk"; return 0; }
    usleep 250000
  done
  return 1
}
new_node() { # new_node PORTAL IQN [IFACE]
  iscsiadm -m node -o new -T "$2" -p "$1" ${3:+-I "$3"} > /dev/null
}
set_node() { iscsiadm -m node -T "$2" -p "$1" -o update -n "$3" -v "$4"; }
login() { # login PORTAL IQN [IFACE]
  new_node "$@" && log_in_again "$@"
}
log_in_again() {
  iscsiadm -m node -T "$2" -p "$1" ${3:+-I "$3"} --login || return
  SID=$(sessions | tail -n 1)
  DISK=$(await_disk "$SID") || { echo "no disk"; dmesg | tail -n 12; return 1; }
  DEV=/dev/$DISK
}
logout() { iscsiadm -m node -T "$2" -p "$1" ${3:+-I "$3"} --logout; }
# The other door to the same disk: opening it does not make the kernel do anything.
generic() { echo "/dev/$(ls "/sys/block/$DISK/device/scsi_generic")"; }
size() { cat "/sys/block/$DISK/size"; }
block() { cat "/sys/block/$DISK/queue/logical_block_size"; }
tell_session() {
  iscsiadm -m session -r "$SID" -P 2 | grep -E 'Segment|Burst|Immediate|InitialR2T|Digest|Outst' | sed 's/^[ \t]*//' | tr '\n' ';' | quote
  echo
}
tell_disk() {
  local q=/sys/block/$DISK/queue
  say "disk $DEV $(size) sectors, blocks of $(block), physical $(cat $q/physical_block_size), discard_max $(cat $q/discard_max_bytes), write_zeroes_max $(cat $q/write_zeroes_max_bytes), write_cache '$(cat $q/write_cache)', fua $(cat $q/fua), ro $(cat "/sys/block/$DISK/ro")"
}
as_first() { SID=$FIRST_SID DISK=$(disk_of "$FIRST_SID") DEV=/dev/$DISK; }
hex() { printf '%016x' "$1" | sed 's/../& /g'; }
# One block that no step needs, written and read past the page cache.
write_to() { head -c "$(block)" /tmp/pattern > /tmp/one && sg_raw -s "$(block)" -i /tmp/one "$1" 8a 00 $(hex $((96 * MIB_BLOCKS))) 00 00 00 01 00 00; }
read_from() { sg_raw -r "$(block)" "$1" 88 00 $(hex $((96 * MIB_BLOCKS))) 00 00 00 01 00 00 > /dev/null; }
settle() { # settle DEV: takes the unit attentions that wait
  for _ in 1 2 3 4 5 6; do sg_turs "$1" > /dev/null 2>&1 && return 0; done
  echo "$1 is not ready"
  sg_turs -v "$1"
  return 1
}
[ -n "$KI_visits" ] && . /steps/visits.sh
[ -n "$KI_work" ] && . /steps/work.sh
if ! step discovery discovers "$KI_portal" "$KI_iqn"; then bye; fi
quote < /tmp/found
if ! step login login "$KI_portal" "$KI_iqn"; then tail -n 15 /tmp/iscsid.log | quote; bye; fi
tell_session
tell_disk
FIRST_SID=$SID MIB_BLOCKS=$((1048576 / $(block)))

for steps in identity data provisioning reservations sessions paths chap luns; do . "/steps/$steps.sh"; done

# --- end
gone() { logout "$KI_portal" "$KI_iqn" && [ -z "$(sessions)" ]; }
step checksums-at-the-end sums
step logout gone
dmesg | grep -E 'I/O error|critical|Medium Error|Call Trace|BUG:' | grep -Ev 'critical target error.*(UNMAP|WRITE_SAME)|reservation conflict|mitigation|spec' | head -n 8 | sed 's/^/    | dmesg: /'
bye
