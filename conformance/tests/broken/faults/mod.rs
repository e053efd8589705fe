//! The faults, one file per family of checks.

mod atomic;
mod attention;
mod bystanders;
mod capacity;
mod chap;
mod chap_mutual;
mod connections;
mod data_in;
mod data_out;
mod digest_errors;
mod digests;
mod discovery;
mod inquiry;
mod login_headers;
mod login_intruders;
mod login_keys;
mod login_names;
mod login_security;
mod login_sessions;
mod login_stages;
mod login_text;
mod login_values;
mod logins;
mod logout;
mod modes;
mod nop;
mod notices;
mod numbering;
mod numbering_status;
mod numbering_tags;
mod opcodes;
mod persistent;
mod preempting;
mod r2t;
mod read;
mod recovery;
mod redirect;
mod registering;
mod reject;
mod reserve;
mod residuals;
mod send_targets;
mod sense;
mod task_sets;
mod tasks;
mod text;
mod text_keys;
mod thin;
mod unsolicited;
mod verify;
mod vpd;
mod write;
mod write_same;

use super::Fault;

/// Every fault.
pub(crate) fn all() -> Vec<&'static Fault> {
    let families = [
        login_stages::FAULTS,
        login_security::FAULTS,
        login_intruders::FAULTS,
        login_names::FAULTS,
        login_text::FAULTS,
        login_keys::FAULTS,
        login_values::FAULTS,
        login_headers::FAULTS,
        login_sessions::FAULTS,
        chap::FAULTS,
        chap_mutual::FAULTS,
        discovery::FAULTS,
        send_targets::FAULTS,
        redirect::FAULTS,
        text::FAULTS,
        text_keys::FAULTS,
        nop::FAULTS,
        logout::FAULTS,
        notices::FAULTS,
        numbering::FAULTS,
        numbering_status::FAULTS,
        numbering_tags::FAULTS,
        data_in::FAULTS,
        residuals::FAULTS,
        data_out::FAULTS,
        r2t::FAULTS,
        unsolicited::FAULTS,
        digests::FAULTS,
        digest_errors::FAULTS,
        tasks::FAULTS,
        task_sets::FAULTS,
        reject::FAULTS,
        bystanders::FAULTS,
        recovery::FAULTS,
        connections::FAULTS,
        inquiry::FAULTS,
        vpd::FAULTS,
        modes::FAULTS,
        sense::FAULTS,
        attention::FAULTS,
        capacity::FAULTS,
        opcodes::FAULTS,
        read::FAULTS,
        write::FAULTS,
        verify::FAULTS,
        atomic::FAULTS,
        thin::FAULTS,
        write_same::FAULTS,
        reserve::FAULTS,
        registering::FAULTS,
        persistent::FAULTS,
        preempting::FAULTS,
    ];
    families.into_iter().flatten().collect()
}
