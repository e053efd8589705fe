# shellcheck shell=sh
# CHAP, with the credentials that kernel-initiator-test documents.

chap() { # chap NAME SECRET ALGORITHMS [MUTUAL_NAME MUTUAL_SECRET]
  local portal=${KI_chap%%,*} iqn=${KI_chap#*,} key
  iscsiadm -m node -T "$iqn" -p "$portal" -o delete > /dev/null 2>&1
  new_node "$portal" "$iqn" || return 1
  set -- "$@" "" ""
  set_node "$portal" "$iqn" node.session.auth.authmethod CHAP && set_node "$portal" "$iqn" node.session.auth.username "$1" &&
    set_node "$portal" "$iqn" node.session.auth.password "$2" && set_node "$portal" "$iqn" node.session.auth.chap_algs "$3" || return 1
  if [ -n "$4" ]; then
    set_node "$portal" "$iqn" node.session.auth.username_in "$4" && set_node "$portal" "$iqn" node.session.auth.password_in "$5" || return 1
  fi
  : > /tmp/iscsid.log
  log_in_again "$portal" "$iqn"
}
chap_ok() { # chap_ok NUMBER CHAP-ARGUMENTS...: it logs in with this algorithm, and the disk is there
  local number=$1
  shift
  chap "$@" || { grep -E 'CHAP|auth' /tmp/iscsid.log | tail -n 8; return 1; }
  grep -a 'CHAP_A' /tmp/iscsid.log | tail -n 2
  read_lba 0 1 > /dev/null && logout "${KI_chap%%,*}" "${KI_chap#*,}"
}
chap_refused() { # chap_refused CODE CHAP-ARGUMENTS...: iscsiadm's exit code, 24 refused by the target, 19 by the initiator
  exits "$1" chap "$2" "$3" "$4" ${5:+"$5" "$6"}
  local failed=$?
  logout "${KI_chap%%,*}" "${KI_chap#*,}" > /dev/null 2>&1
  return $failed
}
without_chap() {
  local portal=${KI_chap%%,*} iqn=${KI_chap#*,}
  iscsiadm -m node -T "$iqn" -p "$portal" -o delete > /dev/null 2>&1
  new_node "$portal" "$iqn" && exits 24 log_in_again "$portal" "$iqn"
}
if wants chap && [ -n "$KI_chap" ]; then
  step chap-md5 chap_ok 5 guest guests-own-secret MD5
  tail -n 2 /tmp/out | quote
  step chap-sha1 chap_ok 6 guest guests-own-secret SHA1
  step chap-sha256 chap_ok 7 guest guests-own-secret SHA256
  step chap-sha3-256 chap_ok 8 guest guests-own-secret SHA3-256
  tail -n 2 /tmp/out | quote
  step chap-of-several chap_ok 8 guest guests-own-secret SHA3-256,SHA256,SHA1,MD5
  step chap-mutual-sha256 chap_ok 7 guest guests-own-secret SHA256 target targets-own-secret
  step chap-mutual-md5 chap_ok 5 guest guests-own-secret MD5 target targets-own-secret
  step chap-wrong-secret-refused chap_refused 24 guest some-other-secret MD5
  step chap-unknown-name-refused chap_refused 24 nobody guests-own-secret MD5
  step chap-wrong-target-refused chap_refused 19 guest guests-own-secret MD5 target not-the-targets-secret
  step chap-none-refused without_chap
  as_first
fi
