# shellcheck shell=sh
# CHAP, with the credentials that kernel-initiator-test documents.

chap() { # chap PORTAL,IQN NAME SECRET ALGORITHMS [MUTUAL_NAME MUTUAL_SECRET]
  local portal=${1%%,*} iqn=${1#*,} prefix=node.session.auth
  iscsiadm -m node -T "$iqn" -p "$portal" -o delete > /dev/null 2>&1
  new_node "$portal" "$iqn" && set_node "$portal" "$iqn" $prefix.authmethod CHAP && set_node "$portal" "$iqn" $prefix.username "$2" &&
    set_node "$portal" "$iqn" $prefix.password "$3" && set_node "$portal" "$iqn" $prefix.chap_algs "$4" || return 1
  if [ -n "${5:-}" ]; then
    set_node "$portal" "$iqn" $prefix.username_in "$5" && set_node "$portal" "$iqn" $prefix.password_in "$6" || return 1
  fi
  log_in_again "$portal" "$iqn"
}
chap_ok() { # chap_ok CHAP-ARGUMENTS...: it logs in, and the disk is there
  chap "$@" && read_lba 0 1 > /dev/null && logout "${1%%,*}" "${1#*,}"
}
chap_refused() { # chap_refused CODE CHAP-ARGUMENTS...: iscsiadm's exit code, 24 refused by the target, 19 by the initiator
  local failed=0
  exits "$1" chap "$2" "$3" "$4" "$5" ${6:+"$6" "$7"} || failed=1
  logout "${2%%,*}" "${2#*,}" > /dev/null 2>&1
  return $failed
}
without_chap() {
  local portal=${KI_chap%%,*} iqn=${KI_chap#*,}
  iscsiadm -m node -T "$iqn" -p "$portal" -o delete > /dev/null 2>&1
  new_node "$portal" "$iqn" && exits 24 log_in_again "$portal" "$iqn"
}
if wants chap && [ -n "$KI_chap" ]; then
  GUEST="guest guests-own-secret" TARGET="target targets-own-secret"
  # shellcheck disable=SC2086  # name and secret are two words
  {
    step chap-md5 chap_ok "$KI_chap" $GUEST MD5
    step chap-sha1 chap_ok "$KI_chap" $GUEST SHA1
    step chap-sha256 chap_ok "$KI_chap" $GUEST SHA256
    step chap-sha3-256 chap_ok "$KI_chap" $GUEST SHA3-256
    step chap-of-several chap_ok "$KI_chap" $GUEST SHA3-256,SHA256,SHA1,MD5
    step chap-mutual-sha256 chap_ok "$KI_chap" $GUEST SHA256 $TARGET
    step chap-mutual-md5 chap_ok "$KI_chap" $GUEST MD5 $TARGET
    step chap-wrong-secret-refused chap_refused 24 "$KI_chap" guest some-other-secret MD5
    step chap-unknown-name-refused chap_refused 24 "$KI_chap" nobody guests-own-secret MD5
    step chap-wrong-target-refused chap_refused 19 "$KI_chap" $GUEST MD5 target not-the-targets-secret
    step chap-none-refused without_chap
    if [ -n "$KI_strict" ]; then
      step chap-strict-algorithm chap_ok "$KI_strict" $GUEST SHA3-256,MD5
      step chap-weak-algorithm-refused chap_refused 24 "$KI_strict" $GUEST SHA256,SHA1,MD5
    fi
  }
  as_first
fi
