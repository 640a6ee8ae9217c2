//! Scrubs: every node reads its disks back; this begins it at once, and shows how far it is.

use super::Context;
use super::problem::{Body, ProblemAnswer};
use crate::coordinator::Coordinator;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ringfort_admin::message::{
    DiskScrubState, NodeScrubState, ScrubPassState, ScrubStarted, ScrubState, StartScrub,
    StartedPass,
};
use ringfort_wire::message::{DiskScrub, ScrubPass, ScrubStatusRequest, StartScrubRequest};
use std::collections::BTreeMap;

pub(super) async fn show(
    State(context): State<Context>,
) -> Result<Json<ScrubState>, ProblemAnswer> {
    let coordinator = context.gateway.coordinator();
    let layout = coordinator.layout().ok_or_else(not_formed)?;
    let replies = coordinator.ask_all_nodes(&ScrubStatusRequest {}).await;
    let nodes = replies.into_iter().map(|(id, reply)| {
        let node = layout.nodes.iter().find(|node| node.id == id);
        let name = node.map_or_else(|| id.to_string(), |node| node.name.clone());
        match reply {
            Ok(reply) => NodeScrubState {
                name,
                error: None,
                disks: reply.disks.into_iter().map(to_state).collect(),
            },
            Err(error) => NodeScrubState {
                name,
                error: Some(error.to_string()),
                disks: Vec::new(),
            },
        }
    });
    Ok(Json(ScrubState {
        nodes: nodes.collect(),
    }))
}

pub(super) async fn start(
    State(context): State<Context>,
    Body(wanted): Body<StartScrub>,
) -> Result<(StatusCode, Json<ScrubStarted>), ProblemAnswer> {
    let coordinator = context.gateway.coordinator();
    let layout = coordinator.layout().ok_or_else(not_formed)?;
    if wanted.rate_mib == Some(0) {
        return Err(ProblemAnswer::new(
            StatusCode::BAD_REQUEST,
            "Invalid",
            "a rate of 0 MiB a second never comes to an end: leave it out, or give 1 or more",
        ));
    }
    let request = StartScrubRequest {
        bytes_per_s: wanted.rate_mib.unwrap_or(0).saturating_mul(1 << 20),
        is_mending: wanted.is_mending,
    };
    let is_meant = |name: &str| wanted.node.as_deref().is_none_or(|wanted| wanted == name);
    let nodes: Vec<_> = layout
        .nodes
        .iter()
        .filter(|node| is_meant(&node.name))
        .collect();
    if nodes.is_empty() {
        let name = wanted.node.unwrap_or_default();
        return Err(ProblemAnswer::new(
            StatusCode::NOT_FOUND,
            "NoSuchNode",
            format!("no node is called {name}: `ringfort status` names them"),
        ));
    }
    let asked = nodes.iter().map(|node| {
        let reply = coordinator.ask_node(node.id, request.clone());
        async move { (node.name.clone(), reply.await) }
    });
    let mut passes = Vec::new();
    let mut silent = Vec::new();
    for (node, reply) in futures_util::future::join_all(asked).await {
        match reply {
            Ok(reply) => {
                passes.extend(reply.passes.into_iter().map(|(disk, number)| StartedPass {
                    node: node.clone(),
                    disk: disk.to_string(),
                    number,
                }))
            }
            Err(error) => silent.push(format!("{node} ({error})")),
        }
    }
    if !silent.is_empty() {
        // Begun on the others all the same: reading twice does no harm, and the sentence says what is missing.
        return Err(ProblemAnswer::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            format!(
                "not begun on {}; begun on every other node",
                silent.join(", ")
            ),
        ));
    }
    Ok((StatusCode::ACCEPTED, Json(ScrubStarted { passes })))
}

/// The scrubs of all disks whose nodes answer, by disk.
pub(super) async fn of_disks(coordinator: &Coordinator) -> BTreeMap<String, DiskScrubState> {
    let replies = coordinator.ask_all_nodes(&ScrubStatusRequest {}).await;
    let disks = replies.into_iter().filter_map(|(_, reply)| reply.ok());
    disks
        .flat_map(|reply| reply.disks)
        .map(|disk| (disk.disk.to_string(), to_state(disk)))
        .collect()
}

fn not_formed() -> ProblemAnswer {
    ProblemAnswer::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "the cluster has not formed yet",
    )
}

fn to_state(disk: DiskScrub) -> DiskScrubState {
    DiskScrubState {
        disk: disk.disk.to_string(),
        current: disk.current.map(to_pass),
        last: disk.last.map(to_pass),
        next_ms: disk.next_ms,
    }
}

fn to_pass(pass: ScrubPass) -> ScrubPassState {
    let counts = pass.counts;
    ScrubPassState {
        number: pass.number,
        is_ordered: pass.is_ordered,
        is_mending: pass.is_mending,
        started_ms: pass.started_ms,
        ended_ms: pass.ended_ms,
        bytes_expected: pass.bytes_expected,
        bytes: counts.bytes,
        records: counts.records,
        rotten_rows: counts.rotten_rows,
        rotten_chunks: counts.rotten_chunks,
        rotten_facts: counts.rotten_facts,
        bad_places: counts.bad_places,
        found: counts.found(),
        mended: counts.mended,
        trouble: pass.trouble,
    }
}
