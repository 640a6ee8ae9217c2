//! Carries out a change of the layout that an operator asks for: whichever node is asked, by the control register.

use super::plane::ControlPlane;
use super::service::LayoutChanger;
use ringfort_ring::change::{LayoutChange, apply};
use std::sync::Arc;

/// Applies changes through a control plane. Each is judged on the layout that it follows; a refusal is a sentence.
#[must_use]
pub fn apply_changes(plane: ControlPlane) -> LayoutChanger {
    Arc::new(move |bytes| {
        let plane = plane.clone();
        Box::pin(async move {
            let change: LayoutChange = postcard::from_bytes(&bytes)
                .map_err(|_| "this release does not know such a change".to_owned())?;
            let changed = plane.update(|layout| apply(layout, &change).map(Some));
            let layout = changed.await.map_err(|error| error.to_string())?;
            tracing::info!(
                version = layout.version,
                ?change,
                "the layout was changed as asked"
            );
            Ok(layout.version)
        })
    })
}
