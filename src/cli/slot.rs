//! `strandline slot`: the replication slot, shown or changed. A change is printed first and done only with `--yes`; the
//! exit code is 2 without it.

use super::args::{Global, Output, SlotArgs, SlotCommand};
use super::output::{err, out, out_json};
use super::wire::{self, SlotPlan, SlotState, Wish};
use super::{Outcome, exit, load_quietly, runtime};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: &SlotArgs) -> Outcome {
    let config = load_quietly(global)?;
    let (wish, yes) = match args.command {
        SlotCommand::Show => (Wish::Show, false),
        SlotCommand::Create { yes } => (Wish::Create, yes),
        SlotCommand::Advance { to, yes } => (Wish::Advance(to), yes),
        SlotCommand::Drop { yes } => (Wish::Drop, yes),
    };
    let plan = runtime()?.block_on(wire::slot(&config, wish, yes))?;
    let is_done = plan.statement.is_none() || yes;
    match global.output {
        Output::Json => out_json(&json!({
            "name": config.source.slot,
            "slot": plan.slot.as_ref().map(shown),
            "statement": plan.statement,
            "remark": plan.remark,
            "done": yes && plan.statement.is_some(),
        })),
        Output::Text => print(&config.source.slot, &plan, is_done),
    }
    Ok(ExitCode::from(if is_done { exit::OK } else { exit::USAGE }))
}

fn print(name: &str, plan: &SlotPlan, is_done: bool) {
    if let Some(statement) = &plan.statement {
        out(statement);
    } else if let Some(slot) = &plan.slot {
        for (key, value) in shown(slot).as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            out(&format!("{:<18}{}", key.replace('_', " "), if value == "null" { "-" } else { &value }));
        }
    } else {
        out(&format!("there is no replication slot \"{name}\""));
    }
    if let Some(remark) = &plan.remark {
        err(remark);
    }
    if !is_done {
        err("nothing was done: add --yes to do it");
    }
}

fn shown(slot: &SlotState) -> Value {
    json!({
        "plugin": slot.plugin,
        "database": slot.database,
        "active_pid": slot.active_pid,
        "active_by": slot.active_by,
        "confirmed_flush": slot.confirmed_flush.map(|lsn| lsn.to_string()),
        "restart": slot.restart.map(|lsn| lsn.to_string()),
        "wal_status": slot.wal_status,
        "retained_bytes": slot.retained_bytes,
        "safe_wal_bytes": slot.safe_wal_bytes,
        "invalidation": slot.invalidation,
        "failover": slot.failover,
        "two_phase": slot.two_phase,
    })
}
