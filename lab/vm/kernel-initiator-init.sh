#!/bin/busybox sh
# /init of the initiator guest. Parameters on the kernel command line: ki.portal=IP:PORT ki.iqn=IQN ki.lun=N
# ki.portal2=IP:PORT (a second path to the same LUN) ki.tests=list ki.hook=1 (the host answers HOSTCALL lines)
export PATH=/usr/sbin:/usr/bin LD_LIBRARY_PATH=/usr/lib
/usr/bin/busybox --install -s /usr/bin 2>/dev/null
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs -o size=300m tmp /tmp; mount -t tmpfs run /run
mkdir -p /run/lock/iscsi /dev/pts /var/lib /run/lock; ln -sf /run/lock /var/lock 2>/dev/null; ln -sf /run /var/run 2>/dev/null
for w in $(cat /proc/cmdline); do case $w in ki.*) k=${w%%=*}; k=${k#ki.}; eval "KI_$k='${w#*=}'";; esac; done
say(){ echo "KERNEL-INITIATOR: $*"; }
NF=0
step(){ STEP=$1; shift; if "$@" > /tmp/out 2>&1; then say "$STEP ok"; else NF=$((NF+1)); say "$STEP FAIL"; tail -n 12 /tmp/out | sed 's/^/    | /'; return 1; fi; }
opt(){ STEP=$1; shift; if "$@" > /tmp/out 2>&1; then say "$STEP ok (optional)"; else say "$STEP skip (optional, not supported: $(grep -v '^$' /tmp/out | tail -n 1 | cut -c1-110))"; fi; }
bye(){ [ $NF = 0 ] && say "RESULT ok" || say "RESULT FAIL ($NF steps)"; sync; sleep 1; poweroff -f; }
info(){ sed 's/^/    | /'; }
mods(){ for m in virtio_pci virtio_net virtio_rng sd_mod sg crc32c_generic iscsi_tcp dm-mod dm-multipath dm-round-robin ext4; do modprobe $m || { [ $m = virtio_rng ] || [ $m = crc32c_generic ] || [ $m = ext4 ]; } || return 1; done; }
net(){ ip link set lo up && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2; }
[ -n "$KI_tests" ] || KI_tests=basic
say "kernel $(uname -r), portal $KI_portal, target $KI_iqn"
step modules mods || bye
for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/eth0 ] && break; sleep 0.3; done
step network net || bye
iscsid -f -d 1 > /tmp/iscsid.log 2>&1 &
sleep 1
discover(){ iscsiadm -m discoverydb -t st -p $KI_portal --discover -o nonpersistent && iscsiadm -m discoverydb -t st -p $KI_portal --discover -o nonpersistent | grep -q " $KI_iqn\$"; }
step discovery-sendtargets discover; cat /tmp/out | info
login1(){ iscsiadm -m node -o new -T $KI_iqn -p $1 >/dev/null && iscsiadm -m node -T $KI_iqn -p $1 --login; }
if ! step login login1 $KI_portal; then tail -n 15 /tmp/iscsid.log | info; bye; fi
disk_of(){ # $1: session id; the block device of lun KI_lun
  for d in /sys/class/iscsi_session/session$1/device/target*/*:*:*:${KI_lun:-0}/block/*; do [ -e "$d" ] && { basename "$d"; return 0; }; done; return 1; }
sid(){ ls /sys/class/iscsi_session | sed s/session// | sort -n | sed -n "${1}p"; }
havedisk(){ for i in $(seq 40); do D=$(disk_of $(sid 1)) && [ -b /dev/$D ] && return 0; sleep 0.25; done; ls -R /sys/class/iscsi_session/*/device; dmesg | tail -n 15; return 1; }
step disk-appears havedisk || bye
D=$(disk_of $(sid 1)); DEV=/dev/$D
iscsiadm -m session -P 2 2>/dev/null | egrep 'Segment|Burst|Immediate|InitialR2T|Digest|State|Outst' | sed 's/^[ \t]*//' | tr '\n' ';' | info; echo
say "disk $DEV $(cat /sys/block/$D/size) sectors, logical $(cat /sys/block/$D/queue/logical_block_size) physical $(cat /sys/block/$D/queue/physical_block_size) max_sectors_kb $(cat /sys/block/$D/queue/max_sectors_kb) discard_max $(cat /sys/block/$D/queue/discard_max_bytes) write_cache '$(cat /sys/block/$D/queue/write_cache)' ro $(cat /sys/block/$D/ro)"
step sg_turs sg_turs $DEV
step sg_inq sg_inq $DEV; egrep -i 'vendor|product|revision|version=' /tmp/out | info
step vpd-supported-pages sg_vpd -p 0 $DEV; cat /tmp/out | info
step vpd-serial-0x80 sg_vpd -p 0x80 $DEV
step vpd-device-id-0x83 sg_vpd -p 0x83 $DEV; cat /tmp/out | info
opt vpd-block-limits-0xb0 sg_vpd -p 0xb0 $DEV; egrep -i 'maximum|optimal' /tmp/out | info
opt vpd-block-characteristics-0xb1 sg_vpd -p 0xb1 $DEV
opt vpd-thin-provisioning-0xb2 sg_vpd -p 0xb2 $DEV
step report-luns sg_luns $DEV
step read-capacity-10 sg_readcap $DEV
step read-capacity-16 sg_readcap -l $DEV
step mode-sense sg_modes -a $DEV
opt report-supported-opcodes sg_opcodes -n $DEV
step synchronize-cache sg_sync $DEV
step request-sense sg_requests $DEV
bad_lba(){ n=$(cat /sys/block/$D/size); ! sg_raw -r 512 $DEV 88 00 $(printf '%016x' $((n+100)) | sed 's/../& /g') 00 00 00 01 00 00; }
step read-past-end-refused bad_lba
badop(){ ! sg_raw $DEV ff 00 00 00 00 00; }
step unknown-opcode-refused badop
case ,$KI_tests, in *,ro,*) # a read-only look: no writes (golden image), compare the hash given by the host
  rohash(){ n=$(( ${KI_hashmib:-64} )); h=$(dd if=$DEV bs=1M count=$n iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1); echo $h; [ "$h" = "$KI_hash" ]; }
  step read-hash rohash
  romount(){ mkdir -p /mnt; P=$DEV; [ -b ${DEV}1 ] && P=${DEV}1; mount -t ext4 -o ro,noload $P /mnt && ls /mnt && cat /mnt/etc/os-release && umount /mnt; }
  step mount-read-only romount;;
*)
  dd if=/dev/urandom of=/tmp/pat bs=1M count=12 2>/dev/null
  H=$(sha256sum < /tmp/pat)
  wr(){ # write with one block size, read with another, direct I/O
    for p in "8k 1M" "64k 8k" "4M 64k" "1M 4M"; do set -- $p
      dd if=/tmp/pat of=$DEV bs=$1 seek=0 oflag=direct conv=notrunc,fsync 2>&1 || return 1
      echo 3 > /proc/sys/vm/drop_caches
      h=$(dd if=$DEV bs=$2 count=12582912 iflag=direct,count_bytes 2>/dev/null | sha256sum); [ "$h" = "$H" ] || { echo "mismatch $p"; return 1; }; done; }
  step direct-write-read-verify wr
  par(){ # 8 writers at once, each its own 3 MiB, random order of start; then verify
    PP=; for k in 0 1 2 3 4 5 6 7; do dd if=/tmp/pat of=$DEV bs=32k skip=$((k*48)) seek=$((k*48+2048)) count=48 oflag=direct conv=notrunc 2>/dev/null & PP="$PP $!"; done; wait $PP
    h=$(dd if=$DEV bs=32k skip=2048 count=384 iflag=direct 2>/dev/null | sha256sum); [ "$h" = "$H" ]; }
  step parallel-writers-verify par
  tail1(){ n=$(cat /sys/block/$D/size); dd if=/tmp/pat of=$DEV bs=512 count=8 seek=$((n-8)) oflag=direct conv=notrunc 2>&1 && [ "$(dd if=$DEV bs=512 skip=$((n-8)) iflag=direct 2>/dev/null | sha256sum)" = "$(head -c 4096 /tmp/pat | sha256sum)" ]; }
  step last-sectors tail1
  step mkfs.ext4 /usr/sbin/mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=1 $DEV
  files(){ mkdir -p /mnt; mount -t ext4 $DEV /mnt || return 1; cd /mnt; mkdir -p d; for i in $(seq 40); do dd if=/tmp/pat of=d/f$i bs=1k skip=$((i*251)) count=$((i*7)) 2>/dev/null; done; cp /tmp/pat big; cp -r /etc etc; find . -type f ! -name SUMS -exec md5sum {} + > /tmp/SUMS; cp /tmp/SUMS SUMS; cd /; sync; umount /mnt; }
  step mount-write-files files
  again(){ echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 $DEV /mnt || return 1; (cd /mnt; md5sum -c SUMS > /tmp/m 2>&1; grep -v ': OK' /tmp/m; cmp SUMS /tmp/SUMS && ! grep -qv ': OK' /tmp/m); r=$?; umount /mnt; return $r; }
  step remount-md5sum again
  step fsck /usr/sbin/e2fsck -fn $DEV
  opt write-same-16 sg_write_same --16 --lba=4096 --num=8 --in=/dev/zero --xferlen=512 $DEV
  opt unmap sg_unmap --force --lba=8192 --num=64 $DEV
  opt blkdiscard /usr/sbin/blkdiscard -f -o 4194304 -l 1048576 $DEV
  head -c 1024 /tmp/pat > /tmp/caw; caw(){ head -c 512 /tmp/pat | dd of=$DEV bs=512 seek=16384 oflag=direct conv=notrunc 2>/dev/null; sg_compare_and_write --lba=16384 --num=1 --in=/tmp/caw --xferlen=1024 $DEV; }
  opt compare-and-write caw
  opt persistent-reservation-in sg_persist --in -k $DEV
  opt verify-10 sg_verify --lba=0 --count=16 $DEV
  step lun-reset sg_reset -d $DEV
  relog(){ iscsiadm -m node -T $KI_iqn -p $KI_portal --logout && ! [ -b $DEV -a -e /sys/block/$D ] && iscsiadm -m node -T $KI_iqn -p $KI_portal --login && havedisk && D=$(disk_of $(sid 1)) && DEV=/dev/$D && again; }
  step logout-login-md5sum relog
  D=$(disk_of $(sid 1)); DEV=/dev/$D
  case ,$KI_tests, in *,digest,*)
    dig(){ iscsiadm -m node -T $KI_iqn -p $KI_portal --logout; for k in Header Data; do iscsiadm -m node -T $KI_iqn -p $KI_portal -o update -n "node.conn[0].iscsi.${k}Digest" -v ${KI_digest:-CRC32C,None} || return 1; done; iscsiadm -m node -T $KI_iqn -p $KI_portal --login && havedisk && D=$(disk_of $(sid 1)) && DEV=/dev/$D && iscsiadm -m session -P 2 | grep Digest | tr '\n' ' ' && again; r=$?
      return $r; }
    step digests-crc32c dig; grep Digest /tmp/out | info; D=$(disk_of $(sid 1)); DEV=/dev/$D
    iscsiadm -m node -T $KI_iqn -p $KI_portal --logout >/dev/null; for k in Header Data; do iscsiadm -m node -T $KI_iqn -p $KI_portal -o update -n "node.conn[0].iscsi.${k}Digest" -v None; done; iscsiadm -m node -T $KI_iqn -p $KI_portal --login >/dev/null; havedisk; D=$(disk_of $(sid 1)); DEV=/dev/$D;;
  esac
  case ,$KI_tests, in *,resize,*)
    rsz(){ old=$(cat /sys/block/$D/size); echo "HOSTCALL: resize" > /dev/console; for i in $(seq 60); do iscsiadm -m session --rescan >/dev/null 2>&1; D=$(disk_of $(sid 1)); new=$(cat /sys/block/$D/size 2>/dev/null); [ -n "$new" ] && [ $new -gt $old ] && { echo "$old -> $new"; DEV=/dev/$D; /usr/sbin/e2fsck -fp $DEV; /usr/sbin/resize2fs $DEV && again; return; }; sleep 0.5; done; echo "still $old"; return 1; }
    step resize-rescan rsz; grep -e '->' /tmp/out | info;;
  esac
  case ,$KI_tests, in *,restart,*)
    rst(){ mount -t ext4 $DEV /mnt || return 1; echo "HOSTCALL: restart" > /dev/console; for i in $(seq 20); do dd if=/tmp/pat of=/mnt/r$i bs=64k count=16 conv=fsync 2>/dev/null || { umount /mnt; return 1; }; sleep 0.4; done; sync; umount /mnt || return 1; again && /usr/sbin/e2fsck -fn $DEV; }
    step target-restart-during-io rst; dmesg | egrep 'connection[0-9]+:0|session recovery|Buffer I/O' | tail -n 4 | info;;
  esac
  if [ -n "$KI_portal2" ]; then
    mp(){ login1 $KI_portal2 || return 1; for i in $(seq 40); do E=$(disk_of $(sid 2)) && break; sleep 0.25; done; [ -n "$E" ] || return 1
      a=$(sg_vpd -q -i -p 0x83 $DEV | tail -n 1); b=$(sg_vpd -q -i -p 0x83 /dev/$E | tail -n 1); echo "$D [$a] $E [$b]"; [ "$a" = "$b" ] || return 1
      dmsetup create mp --table "0 $(cat /sys/block/$D/size) multipath 1 queue_if_no_path 0 1 1 round-robin 0 2 1 $(cat /sys/block/$D/dev) 1 $(cat /sys/block/$E/dev) 1" || return 1
      dmsetup mknodes; dmsetup status mp; }
    if step multipath-two-portals mp; then cat /tmp/out | info
      mpio(){ h=$(dd if=/dev/mapper/mp bs=256k count=32 iflag=direct 2>/dev/null | sha256sum); h2=$(dd if=$DEV bs=256k count=32 iflag=direct 2>/dev/null | sha256sum); [ "$h" = "$h2" ] || return 1; (sleep 1; iscsiadm -m node -T $KI_iqn -p $KI_portal2 --logout) >/dev/null 2>&1 & for i in 1 2 3 4 5 6; do h=$(dd if=/dev/mapper/mp bs=256k count=32 iflag=direct 2>/dev/null | sha256sum); [ "$h" = "$h2" ] || return 1; sleep 0.3; done; dmsetup status mp; }
      step multipath-failover mpio; tail -n 1 /tmp/out | info; dmsetup remove mp; fi
  fi;;
esac
lo(){ iscsiadm -m node -T $KI_iqn -p $KI_portal --logout; [ -z "$(sid 1)" ]; }
step logout lo
dmesg | egrep 'I/O error|critical|Medium Error|Call Trace|BUG:' | egrep -v 'critical target error.*(UNMAP|WRITE_SAME)|mitigation|spec' | head -n 8 | sed 's/^/    | dmesg: /'
bye
