//! The example settings in `deploy/config` are ones that this release takes.

use crate::{gateway::GatewayArgs, node::NodeArgs, server::ServerArgs, settings};

#[test]
#[allow(clippy::unwrap_used, reason = "test code")]
fn every_example_is_read() {
    settings::parse::<ServerArgs>(include_str!("../../deploy/config/server.toml")).unwrap();
    let node: NodeArgs = settings::parse(include_str!("../../deploy/config/node.toml")).unwrap();
    assert_eq!(node.disk.len(), 2);
    settings::parse::<GatewayArgs>(include_str!("../../deploy/config/gateway.toml")).unwrap();
    assert!(settings::parse::<NodeArgs>(include_str!("../../deploy/config/server.toml")).is_err());
}
