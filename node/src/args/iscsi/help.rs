//! What the help of the subcommands ends with: the fields of their JSON, examples, and exit codes.

macro_rules! exit_codes {
    () => {
        "\
Exit codes: 0 done, 1 the unit answered no or something differs, 2 the unit could not be asked, the command was
interrupted, or it is wrong. `vmthunder iscsi --help` has the whole table."
    };
}

/// The end of the help of `vmthunder iscsi`.
pub(crate) const OUTCOMES: &str = "\
Exit codes, and the kind that --json tells with the error, as {\"error\": ..., \"kind\": ...} on standard output:
  0  done
  1  something differs, or is wrong, or the unit answered no:
       write-protected    it cannot be written
       reserved           another initiator has reserved it
       out-of-range       it ends before
       no-space           it has no space left, or a file has not
       unsupported        it does not know this
       cache-lost         it was reset or switched on, and may have lost what it had acknowledged
       changed            it is another unit than before, or has another size
       refused            any other answer that is no
  2  the unit could not be asked, or nobody knows what it did:
       no-such-target     the portal has no target of that name for us
       no-such-unit       the target has no unit of that number for us
       login-refused      the target does not let us in, or does not prove itself
       unreachable        there is no connection, or no answer in time (--outage, --timeout)
       in-doubt           the answer was lost: the command may have been carried out
       interrupted        by a signal
       cannot             the command line, a file, this machine";

/// The end of every short help.
pub(super) const EXIT_CODES: &str = exit_codes!();

pub(super) const DISCOVER: &str = concat!(
    "\
JSON: an array of objects
  name               the target's name
  addresses          an array of address (HOST:PORT) and portal_group_tag

",
    exit_codes!()
);

pub(super) const LUNS: &str = concat!(
    "\
JSON: an array of objects; what a unit does not tell is null
  lun, address                       its number, and its address as eight bytes in hexadecimal
  device_type, vendor, product, revision, serial, naa
  blocks, block_bytes, bytes         its size
  read_only, thin                    true or false
  error                              why it does not tell more

",
    exit_codes!()
);

pub(super) const INQUIRY: &str = concat!(
    "\
JSON: an object
  device_type, version, vendor, product, revision, serial
  removable          true or false
  alua               0 none, 1 implicit, 2 explicit, 3 both (TPGS)
  designators        an array: the names of the unit
With --page: page, name, fields (an object, or null if this program cannot read the page), hex

",
    exit_codes!()
);

pub(super) const CAPACITY: &str = concat!(
    "\
JSON: an object
  blocks, block_bytes, bytes         the size
  physical_block_bytes               what the disk writes at once
  thin, reads_zeros                  LBPME and LBPRZ: blocks can be given back, and read as zeros then

",
    exit_codes!()
);

pub(super) const STATUS: &str = concat!(
    "\
Exit code 1 if the unit is not ready.

JSON: an object; what is not known is null
  url, initiator                     without the secret
  portal, portals                    where the session is, and what discovery tells: address, portal_group_tag
  negotiated                         header_digest, data_digest, max_recv_data_segment_length,
                                     max_send_data_segment_length, max_burst_length, first_burst_length,
                                     immediate_data, initial_r2t, max_outstanding_r2t, max_connections,
                                     error_recovery_level, default_time2wait, default_time2retain, command_window
  round_trip                         of TEST UNIT READY: probes, min_us, median_us, max_us
  ready, not_ready                   true or false, and why not
  vendor, product, revision, serial, designators, blocks, block_bytes, bytes
  write_cache, write_protected       true or false
  thin, unmap, reads_zeros           how blocks are given back
  alua                               of this port: group, port, state, preferred, implicit, explicit
  paths                              the ways of the URL and of each --portal, none if the unit is not ready: portal,
                                     portal_group_tag, state (connected, lost or refused) and reason, port_group and
                                     access (ALUA), in_use, commands, failures, logins, latency_us
  reservation                        a persistent one: kind, key, holders

",
    exit_codes!()
);

pub(super) const READ: &str = concat!(
    "\
Examples:
  The partition table of a disk:
    vmthunder iscsi read URL --blocks 34 | fdisk -l /dev/stdin
  All of it, into a file (`iscsi copy` leaves out zeros, and can go on after an interruption):
    vmthunder iscsi read URL --output disk.raw
  A piece of it, into a file:
    vmthunder iscsi read URL --offset 1GiB --length 64MiB --output piece.raw

JSON (with --output): an object with offset and bytes

",
    exit_codes!()
);

pub(super) const WRITE: &str = concat!(
    "\
What the unit holds there is overwritten, and nobody is asked. The input has to be whole blocks; with --blocks or --length no more than that is taken of it.

Examples:
  vmthunder iscsi write URL --input boot.img --verify
  zcat disk.raw.gz | vmthunder iscsi write URL

JSON: an object
  offset, bytes      what was written
  verified           true or false; null without --verify
  differing          an array of offset and bytes: what reads back as something else

",
    exit_codes!()
);

pub(super) const TRIM: &str = concat!(
    "\
JSON: an object with offset and bytes: what was given back

",
    exit_codes!()
);

pub(super) const COPY: &str = concat!(
    "\
Examples:
  Into a file, and compare:
    vmthunder iscsi copy URL disk.raw --verify
  Go on after an interruption:
    vmthunder iscsi copy URL disk.raw --resume
  A file onto a unit:
    vmthunder iscsi copy disk.raw URL
  From unit to unit, with a secret for the one that asks for it (for two users the file has two lines USER:SECRET):
    vmthunder iscsi copy iscsi://alice@192.0.2.7/iqn.2026-11.org.example:old/0 \\
      iscsi://192.0.2.8/iqn.2026-11.org.example:new/0 --chap-secret-file alice.secret --journal move.copying

Whoever writes to the source meanwhile gets a copy of no single moment; --verify finds that out.

JSON: an object
  source, destination, bytes
  resumed_at         how many bytes were copied before
  stored_bytes       what was written; zero_bytes: what was zeros
  cache_losses       how often the destination may have lost what it had not flushed, and was written again
  seconds
  verified           true or false; null without --verify
  differing          an array of offset and bytes

",
    exit_codes!()
);

pub(super) const BENCH: &str = concat!(
    "\
Examples:
  Reads of 4 KiB all over the disk:
    vmthunder iscsi bench URL
  What a database does, with four connections, on a disk that may be overwritten:
    vmthunder iscsi bench URL --read-percent 70 --block 8KiB --sessions 4 --destructive
  Throughput:
    vmthunder iscsi bench URL --block 1MiB --depth 8 --pattern sequential
  Is everything still there?
    vmthunder iscsi bench URL --span 1GiB --read-percent 50 --destructive --verify
    vmthunder iscsi bench URL --span 1GiB --verify

A repeated write of a block carries what is there already, so that --verify can be asked at any time: it finds blocks
that are damaged or in a wrong place, and not a write that was lost over the same one before.

JSON: an object
  block_bytes, span_bytes, pattern, read_percent, sessions, depth
  seconds, ops, iops, mib_per_second
  cpu_seconds, cpu_seconds_per_100k  of this program, in the kernel and outside
  reads, writes                      each: ops, iops, mib_per_second, and latency_us: min, mean, p50, p90, p99, p99_9,
                                     max, and buckets, an array of up_to (µs) and ops; null where there were none
  errors, unfinished                 what failed, and what did not end within 3 s after the end: both make exit code 1 or 2
  ended_by                           the kind of what ended it before its time, or null
  verified, wrong_reads, wrong_at    whether reads were checked, how many were wrong, and the first wrong bytes

",
    exit_codes!()
);

pub(super) const REPLAY: &str = concat!(
    "\
Example:
  What a boot would be like from here, a tenth of the time that the recorded guest took for itself:
    vmthunder iscsi replay URL --image disk.raw --pace 0.1

Exit code 1 also if a read or a write failed; the others are done nevertheless.

JSON: an object
  trace, reads, writes               what was replayed
  seconds                            from before the login to the last answer
  own_seconds                        the guest's own time in this
  read_bytes, wrong_bytes            what was compared, and what of it was something else
  errors                             reads and writes that failed
  first_trouble                      the first that was wrong or failed; null if there was none
  longest_ms, longest_at_s           the longest read or write, and when it began
  p50_ms, p99_ms                     how long half and how long 99 of 100 took at most

",
    exit_codes!()
);
