//! The checks, one file per family.

mod atomic;
mod attention;
mod blocks;
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
mod registrants;
mod reject;
mod reserve;
mod residuals;
mod room;
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

use crate::check::Check;

/// Every check, in the order in which they are played.
pub fn all() -> Vec<&'static Check> {
    let families = [
        login_stages::CHECKS,
        login_security::CHECKS,
        login_intruders::CHECKS,
        login_names::CHECKS,
        login_text::CHECKS,
        login_keys::CHECKS,
        login_values::CHECKS,
        login_headers::CHECKS,
        login_sessions::CHECKS,
        chap::CHECKS,
        chap_mutual::CHECKS,
        discovery::CHECKS,
        send_targets::CHECKS,
        redirect::CHECKS,
        text::CHECKS,
        text_keys::CHECKS,
        nop::CHECKS,
        logout::CHECKS,
        notices::CHECKS,
        numbering::CHECKS,
        numbering_status::CHECKS,
        numbering_tags::CHECKS,
        data_in::CHECKS,
        residuals::CHECKS,
        data_out::CHECKS,
        r2t::CHECKS,
        unsolicited::CHECKS,
        digests::CHECKS,
        digest_errors::CHECKS,
        tasks::CHECKS,
        task_sets::CHECKS,
        reject::CHECKS,
        bystanders::CHECKS,
        recovery::CHECKS,
        connections::CHECKS,
        inquiry::CHECKS,
        vpd::CHECKS,
        vpd::designators::CHECKS,
        vpd::block::CHECKS,
        modes::CHECKS,
        modes::pages::CHECKS,
        modes::select::CHECKS,
        sense::CHECKS,
        attention::CHECKS,
        capacity::CHECKS,
        opcodes::CHECKS,
        opcodes::supported::CHECKS,
        read::CHECKS,
        write::CHECKS,
        verify::CHECKS,
        atomic::CHECKS,
        thin::CHECKS,
        write_same::CHECKS,
        reserve::CHECKS,
        registering::CHECKS,
        persistent::CHECKS,
        preempting::CHECKS,
    ];
    families.into_iter().flatten().collect()
}
