//! A stranger's visit: one small `Join`, and out.

use super::{Shared, Stream, error_frame, expect, finish, refuse, unavailable};
use crate::error::{NodeError, NodeErrorCode};
use crate::frame::{Frame, FrameType, Label};
use crate::id::Payload;
use crate::link::{FrameReader, LinkError, write_one};
use crate::message::Request;
use crate::transport::Peer;
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use tokio::io::{ReadHalf, WriteHalf};

/// A Join with its signing request and the names of many disks is well below this.
const JOIN_MAX_BYTES: u32 = 64 * 1024;

/// Serves the one request. The caller bounds the time.
pub(super) async fn serve(
    shared: &Shared,
    mut reader: FrameReader<ReadHalf<Stream>>,
    mut write: WriteHalf<Stream>,
) -> Result<(), LinkError> {
    let stall_max = shared.options.liveness.stall_max;
    let plain = Label::plain(FrameType::Error, shared.era.get());
    let Some(_visit) = shared.limits.stranger() else {
        let error = unavailable("too many strangers at the door; try again");
        return refuse(&mut write, plain, &error, stall_max).await;
    };
    let header = reader.header().await?;
    let label = Label {
        id: header.id,
        kind: header.kind,
        ..plain
    };
    // Judged by the header alone: nothing of any other request is read.
    if header.kind != JOIN_KIND || expect(&header, FrameType::Request, JOIN_MAX_BYTES).is_err() {
        let error = NodeError::new(
            NodeErrorCode::Unauthorised,
            "without a certificate one may only join",
        );
        return refuse(&mut write, label, &error, stall_max).await;
    }
    let (body, _) = reader.data(&header).await?;
    let request = match Request::decode(header.kind, &body) {
        Ok(request) => request,
        Err(error) => return refuse(&mut write, label, &error, stall_max).await,
    };
    let handled = async {
        shared
            .service
            .handle(Peer::Stranger, request, Payload::new())
            .await
    };
    let frame = match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(Ok((response, payload))) => {
            let answer = Label {
                frame_type: FrameType::Response,
                ..label
            };
            Frame::new(answer, &response.encode(), payload)?
        }
        Ok(Err(error)) => error_frame(label, &error),
        Err(_) => error_frame(label, &unavailable("the service failed")),
    };
    write_one(&mut write, frame, stall_max).await?;
    finish(&mut write, stall_max).await
}

/// `Join`'s kind, which is never used again.
const JOIN_KIND: u16 = 23;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::join_request;

    #[test]
    fn only_the_kind_of_join_is_let_in() {
        assert_eq!(Request::Join(join_request()).kind(), JOIN_KIND);
    }
}
