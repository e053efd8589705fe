//! `vmthunder iscsi status`: one session and one unit as somebody sees them who looks after them.

use std::time::{Duration, Instant};

use anyhow::Result;
use iscsi_initiator::{Error, Session, discover};
use iscsi_proto::scsi::persistent::{ReservationReport, ReservationType, parse_full_status};
use iscsi_proto::scsi::vpd::{self, parse_designators};
use iscsi_proto::scsi::{Command, ReserveIn, port_groups};
use iscsi_proto::session::Transfer;
use iscsi_proto::wire::lun::Lun;
use serde::Serialize;

use crate::args::UnitArgs;
use crate::iscsi::paths::{self, PathRow};
use crate::iscsi::reach::{Place, Reached, with_unit};
use crate::iscsi::unit::{ask, ask_if_known, modes, provisioning, readable, serial};
use crate::iscsi::{fact, yes_no};
use crate::status::{print_json, size};

/// How often the unit is asked whether it is ready, to measure the round trip.
const PROBES: usize = 21;

/// How long discovery may take, which is not what was asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the answers about reservations and port groups that are taken.
const ANSWER_BYTES: u16 = 8192;

/// What `iscsi status --json` prints. What is not known is null.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    initiator: String,
    /// Where the session is.
    portal: Option<String>,
    /// What discovery tells of the target.
    portals: Option<Vec<Portal>>,
    negotiated: Negotiated,
    round_trip: Option<RoundTrip>,
    ready: bool,
    not_ready: Option<String>,
    vendor: String,
    product: String,
    revision: String,
    serial: Option<String>,
    designators: Vec<String>,
    blocks: Option<u64>,
    block_bytes: Option<u32>,
    bytes: Option<u64>,
    write_cache: Option<bool>,
    write_protected: Option<bool>,
    thin: Option<bool>,
    unmap: Option<bool>,
    reads_zeros: Option<bool>,
    alua: Option<Alua>,
    /// None if the unit is not ready.
    paths: Vec<PathRow>,
    reservation: Option<Reservation>,
}

#[derive(Debug, Serialize)]
struct Portal {
    address: String,
    portal_group_tag: u16,
}

/// What the login settled; lengths are in bytes.
#[derive(Debug, Serialize)]
struct Negotiated {
    header_digest: bool,
    data_digest: bool,
    max_recv_data_segment_length: u32,
    max_send_data_segment_length: u32,
    max_burst_length: u32,
    first_burst_length: u32,
    immediate_data: bool,
    initial_r2t: bool,
    max_outstanding_r2t: u16,
    max_connections: u16,
    error_recovery_level: u8,
    default_time2wait: u16,
    default_time2retain: u16,
    command_window: u32,
}

#[derive(Debug, Serialize)]
struct RoundTrip {
    probes: usize,
    min_us: u64,
    median_us: u64,
    max_us: u64,
}

/// The way through this port (SPC-4 §5.15).
#[derive(Debug, Serialize)]
struct Alua {
    group: u16,
    port: Option<u16>,
    state: String,
    preferred: bool,
    implicit: bool,
    explicit: bool,
}

/// A persistent reservation.
#[derive(Debug, Serialize)]
struct Reservation {
    kind: &'static str,
    key: String,
    /// Who holds it, by name; empty if the unit does not tell.
    holders: Vec<String>,
}

/// Shows how things stand; false if the unit is not ready.
pub(super) async fn show(url: &str, args: &UnitArgs) -> Result<bool> {
    let place = Place::of(url, &args.common)?.through(&args.paths)?;
    let report = with_unit(place, look).await?;
    if args.common.json {
        print_json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(report.ready)
}

async fn look(unit: &Reached) -> Result<Report> {
    let (session, lun) = (&unit.session, unit.lun);
    let settled = session.settled();
    let params = &settled.params;
    let readiness = ready(session, lun).await?;
    let round_trip = match readiness {
        None => Some(round_trip(session, lun).await?),
        Some(_) => None,
    };
    let capacity = match session.read_capacity(lun).await {
        Ok(capacity) => Some(capacity),
        Err(Error::Status { .. } | Error::Malformed) => None,
        Err(error) => return Err(error.into()),
    };
    let modes = modes(session, lun).await?;
    let provisioning = provisioning(session, lun).await?;
    let designators = session.designators(lun).await?;
    let alua = alua(unit).await?;
    let paths = match &round_trip {
        Some(round_trip) => ways(unit, alua.as_ref(), round_trip).await?,
        None => Vec::new(),
    };
    Ok(Report {
        url: unit.place.url.to_string(),
        initiator: unit.place.options.initiator_name.to_string(),
        portals: portals(&unit.place).await,
        negotiated: Negotiated {
            header_digest: params.header_digest,
            data_digest: params.data_digest,
            max_recv_data_segment_length: params.max_recv_data_segment_length,
            max_send_data_segment_length: params.max_send_data_segment_length,
            max_burst_length: params.max_burst_length,
            first_burst_length: params.first_burst_length,
            immediate_data: params.immediate_data,
            initial_r2t: params.initial_r2t,
            max_outstanding_r2t: params.max_outstanding_r2t,
            // Nobody asks for more (see `Params`).
            max_connections: 1,
            error_recovery_level: 0,
            default_time2wait: params.time2wait,
            default_time2retain: params.time2retain,
            command_window: settled.window,
        },
        portal: settled.portal.map(|portal| portal.to_string()),
        round_trip,
        ready: readiness.is_none(),
        not_ready: readiness,
        vendor: unit.inquiry.vendor.clone(),
        product: unit.inquiry.product.clone(),
        revision: unit.inquiry.revision.clone(),
        serial: Some(serial(session, lun).await?).filter(|serial| !serial.is_empty()),
        designators: designators.iter().map(readable).collect(),
        blocks: capacity.map(|capacity| capacity.blocks),
        block_bytes: capacity.map(|capacity| capacity.block_bytes),
        bytes: capacity.map(|it| it.blocks.saturating_mul(u64::from(it.block_bytes))),
        write_cache: modes.and_then(|modes| modes.write_cache),
        write_protected: modes.map(|modes| modes.write_protected),
        thin: provisioning.map(|page| page.thin),
        unmap: provisioning.map(|page| page.unmap),
        reads_zeros: provisioning.map(|page| page.reads_zeros),
        alua,
        paths,
        reservation: reservation(session, lun).await?,
    })
}

/// The ways to a unit that is ready. Of a single one its session tells more.
async fn ways(unit: &Reached, alua: Option<&Alua>, round_trip: &RoundTrip) -> Result<Vec<PathRow>> {
    let mut ways = paths::look(&unit.attach().await?, PROBES).await?;
    if let [only] = ways.as_mut_slice() {
        only.latency_us = Some(round_trip.median_us);
        if let Some(alua) = alua {
            only.port_group = Some(alua.group);
            only.access.clone_from(&alua.state);
        }
    }
    Ok(ways)
}

/// Why the unit is not ready; `None` if it is.
async fn ready(session: &Session, lun: Lun) -> Result<Option<String>, Error> {
    match ask(session, lun, &Command::TestUnitReady, Transfer::None).await {
        Ok(_) => Ok(None),
        Err(error @ Error::Status { .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

async fn round_trip(session: &Session, lun: Lun) -> Result<RoundTrip, Error> {
    let mut took = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let begun = Instant::now();
        ask(session, lun, &Command::TestUnitReady, Transfer::None).await?;
        took.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    took.sort_unstable();
    let at = |index: usize| took.get(index).copied().unwrap_or_default();
    Ok(RoundTrip {
        probes: took.len(),
        min_us: at(0),
        median_us: at(took.len() / 2),
        max_us: at(took.len().saturating_sub(1)),
    })
}

/// The ways to the target that discovery tells of; `None` if it does not.
async fn portals(place: &Place) -> Option<Vec<Portal>> {
    let address = place.url.address();
    let records = tokio::time::timeout(PATIENCE, discover(&address, &place.options));
    let records = records.await.ok()?.ok()?;
    let own = records
        .into_iter()
        .find(|record| Some(&record.name) == place.url.target())?;
    let portals = own.addresses.into_iter();
    let portals = portals.map(|(address, portal_group_tag)| Portal {
        address,
        portal_group_tag,
    });
    Some(portals.collect())
}

async fn alua(unit: &Reached) -> Result<Option<Alua>, Error> {
    // TPGS: bit 0 implicit, bit 1 explicit (SPC-4 §6.4.2).
    let supported = unit.inquiry.target_port_groups;
    if supported == 0 {
        return Ok(None);
    }
    let page = vpd::DEVICE_IDENTIFICATION;
    let page = unit.session.vital_page(unit.lun, page).await?;
    let designators = page.as_deref().and_then(parse_designators);
    let of_port = |kind: u8| {
        let designators = designators.as_deref().unwrap_or_default().iter();
        let mut values = designators.filter(|it| it.association == OF_THE_PORT && it.kind == kind);
        let value = values.next()?.value.last_chunk::<2>().copied()?;
        Some(u16::from_be_bytes(value))
    };
    let command = Command::ReportTargetPortGroups {
        extended: false,
        allocation: ANSWER_BYTES.into(),
    };
    let answer = ask_if_known(&unit.session, unit.lun, &command, ANSWER_BYTES.into()).await?;
    let groups = answer.and_then(|bytes| port_groups::parse(&bytes));
    let own = of_port(KIND_PORT_GROUP);
    let group = groups
        .unwrap_or_default()
        .into_iter()
        .find(|group| Some(group.number) == own);
    Ok(group.map(|group| Alua {
        group: group.number,
        port: of_port(KIND_RELATIVE_PORT),
        state: group.state.to_string(),
        preferred: group.preferred,
        implicit: supported & 1 != 0,
        explicit: supported & 2 != 0,
    }))
}

async fn reservation(session: &Session, lun: Lun) -> Result<Option<Reservation>, Error> {
    let command = |action| Command::PersistentReserveIn {
        action,
        allocation: ANSWER_BYTES,
    };
    let length = u32::from(ANSWER_BYTES);
    let held = ask_if_known(session, lun, &command(ReserveIn::ReadReservation), length).await?;
    let held = held.and_then(|bytes| ReservationReport::parse(&bytes)?.held);
    let Some(held) = held else {
        return Ok(None);
    };
    let full = ask_if_known(session, lun, &command(ReserveIn::ReadFullStatus), length).await?;
    let full = full.and_then(|bytes| parse_full_status(&bytes));
    let registrants = full.unwrap_or_default().registrants.into_iter();
    let holders = registrants.filter(|registrant| registrant.holds.is_some());
    Ok(Some(Reservation {
        kind: reservation_kind(held.kind),
        key: format!("{:#018x}", held.key),
        holders: holders
            .map(|registrant| registrant.initiator.initiator().to_string())
            .collect(),
    }))
}

fn reservation_kind(kind: ReservationType) -> &'static str {
    match kind {
        ReservationType::WriteExclusive => "write exclusive",
        ReservationType::ExclusiveAccess => "exclusive access",
        ReservationType::WriteExclusiveRegistrantsOnly => "write exclusive, registrants only",
        ReservationType::ExclusiveAccessRegistrantsOnly => "exclusive access, registrants only",
        ReservationType::WriteExclusiveAllRegistrants => "write exclusive, all registrants",
        ReservationType::ExclusiveAccessAllRegistrants => "exclusive access, all registrants",
    }
}

fn print(report: &Report) -> Result<()> {
    fact("unit", &report.url)?;
    fact(
        "product",
        format_args!("{} {} {}", report.vendor, report.product, report.revision),
    )?;
    fact("serial", report.serial.as_deref().unwrap_or("none"))?;
    for name in &report.designators {
        fact("designator", name)?;
    }
    match (report.bytes, report.blocks, report.block_bytes) {
        (Some(bytes), Some(blocks), Some(block)) => fact(
            "size",
            format_args!("{}, {blocks} blocks of {block} bytes", size(bytes)),
        )?,
        _ => fact("size", "unknown")?,
    }
    match &report.not_ready {
        None => fact("ready", "yes")?,
        Some(why) => fact("ready", format_args!("NO: {why}"))?,
    }
    if let Some(it) = &report.round_trip {
        let RoundTrip {
            probes,
            min_us,
            median_us,
            max_us,
        } = it;
        let times = format_args!("{min_us} / {median_us} / {max_us} µs");
        fact(
            "round trip",
            format_args!("{times} (min, median, max of {probes})"),
        )?;
    }
    fact("write cache", yes_no(report.write_cache))?;
    fact("read-only", yes_no(report.write_protected))?;
    let zeros = match report.reads_zeros {
        Some(true) => ", and read as zeros then",
        _ => "",
    };
    let unmap = match report.unmap {
        Some(true) => format!("; blocks can be given back{zeros}"),
        _ => String::new(),
    };
    fact("thin", format_args!("{}{unmap}", yes_no(report.thin)))?;
    match &report.alua {
        None => fact("port state", "the same through every port")?,
        Some(alua) => fact(
            "port state",
            format_args!("{}, group {}", alua.state, alua.group),
        )?,
    }
    match &report.reservation {
        None => fact("reservation", "none")?,
        Some(held) => {
            let holders = held.holders.join(", ");
            fact(
                "reservation",
                format_args!("{}, key {}, {holders}", held.kind, held.key),
            )?;
        }
    }
    print_session(report)?;
    if report.paths.is_empty() {
        return Ok(());
    }
    paths::print(&report.paths)
}

fn print_session(report: &Report) -> Result<()> {
    fact("initiator", &report.initiator)?;
    fact("portal", report.portal.as_deref().unwrap_or("lost"))?;
    for portal in report.portals.iter().flatten() {
        fact(
            "",
            format_args!("{},{}", portal.address, portal.portal_group_tag),
        )?;
    }
    let keys = &report.negotiated;
    let word = |yes: bool| yes_no(Some(yes));
    let digest = |on: bool| if on { "CRC32C" } else { "None" };
    for (name, value) in [
        ("HeaderDigest", digest(keys.header_digest).to_owned()),
        ("DataDigest", digest(keys.data_digest).to_owned()),
        (
            "MaxRecvDataSegmentLength",
            format!(
                "{} to us, {} to the target",
                keys.max_recv_data_segment_length, keys.max_send_data_segment_length
            ),
        ),
        ("MaxBurstLength", keys.max_burst_length.to_string()),
        ("FirstBurstLength", keys.first_burst_length.to_string()),
        ("ImmediateData", word(keys.immediate_data).to_owned()),
        ("InitialR2T", word(keys.initial_r2t).to_owned()),
        ("MaxOutstandingR2T", keys.max_outstanding_r2t.to_string()),
        ("MaxConnections", keys.max_connections.to_string()),
        ("ErrorRecoveryLevel", keys.error_recovery_level.to_string()),
        (
            "DefaultTime2Wait",
            format!(
                "{} s, DefaultTime2Retain {} s",
                keys.default_time2wait, keys.default_time2retain
            ),
        ),
        ("command window", keys.command_window.to_string()),
    ] {
        crate::observe::line(format_args!("  {name:<26}{value}"))?;
    }
    Ok(())
}

/// A designator of the target port, its group and its number (SPC-4 §7.8.6).
const OF_THE_PORT: u8 = 1;
const KIND_RELATIVE_PORT: u8 = 4;
const KIND_PORT_GROUP: u8 = 5;
