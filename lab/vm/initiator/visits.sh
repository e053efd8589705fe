# shellcheck shell=sh
# Visits: logs in wherever the machine outside says, one place after the other, until it is ended. What to do is fetched as
# visit-N: a line "PORTAL TARGET", or "PORTAL" alone for discovery. "VISITED: N CODE" is the answer. See visitor-guest.
uses_disk() { # what a user does: reads, writes, reads back
  dd if="$DEV" of=/tmp/read bs=64k count=16 iflag=direct 2> /dev/null || { echo "cannot read"; return 1; }
  [ "$(cat /tmp/first 2> /dev/null || md5sum < /tmp/read | tee /tmp/first)" = "$(md5sum < /tmp/read)" ] || { echo "read other bytes than in the first visit"; return 1; }
  dd if=/tmp/noise of="$DEV" bs=64k seek=32 oflag=direct conv=notrunc,fsync 2> /dev/null || { echo "cannot write"; return 1; }
  dd if="$DEV" of=/tmp/back bs=64k skip=32 count=8 iflag=direct 2> /dev/null || { echo "cannot read back"; return 1; }
  cmp /tmp/noise /tmp/back
}
visit() { # visit PORTAL [TARGET]
  local code=0
  if [ -z "$2" ]; then
    discover "$1"
    return
  fi
  new_node "$1" "$2" && set_node "$1" "$2" node.session.timeo.replacement_timeout 10 &&
    set_node "$1" "$2" node.session.initial_login_retry_max 3 && set_node "$1" "$2" 'node.conn[0].timeo.login_timeout' 5 &&
    set_node "$1" "$2" 'node.conn[0].timeo.noop_out_interval' 2 && set_node "$1" "$2" 'node.conn[0].timeo.noop_out_timeout' 3 || return 1
  case $2 in *digest*) set_node "$1" "$2" 'node.conn[0].iscsi.HeaderDigest' CRC32C,None; set_node "$1" "$2" 'node.conn[0].iscsi.DataDigest' CRC32C,None ;; esac
  log_in_again "$1" "$2" && uses_disk || code=1
  iscsiadm -m node -T "$2" -p "$1" --logout || code=1
  iscsiadm -m node -T "$2" -p "$1" -o delete
  return $code
}
within() { # within QUARTERS COMMAND...: at most so many quarters of a second
  local quarters=$1 pid
  shift
  "$@" > /tmp/out 2>&1 &
  pid=$!
  while [ "$quarters" -gt 0 ] && kill -0 $pid 2> /dev/null; do usleep 250000; quarters=$((quarters - 1)); done
  if kill -9 $pid 2> /dev/null; then echo "not over in time" >> /tmp/out; return 124; fi
  wait $pid
}
dd if=/dev/urandom of=/tmp/noise bs=64k count=8 2> /dev/null
say "waiting"
NUMBER=1
while :; do
  if tftp -g -r "visit-$NUMBER" -l /tmp/visit 10.0.2.2 > /dev/null 2>&1; then
    # shellcheck disable=SC2046  # words
    within 100 visit $(cat /tmp/visit)
    CODE=$?
    quote < /tmp/out
    for session in $(sessions); do iscsiadm -m session -r "$session" -u > /dev/null 2>&1; done
    echo "VISITED: $NUMBER $CODE"
    NUMBER=$((NUMBER + 1))
  else
    usleep 150000
  fi
done
