//! Whether the connection was given up because its worker had to end.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};

pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let Some(close) = case.shut_down() else { return };
    let detail = format!(
        "Worker {} ended in order right after it had given this connection up, as one that a reload has told to end",
        close.task.pid
    );
    findings.push(Finding::supporting("worker_shut_down", Origins::NGINX, detail));
    findings.extend(limited(case));
}

/// HTTP/2 has clients that cancel a request and stay, of which the kernel sees nothing.
fn limited(case: &Case) -> Option<Finding> {
    let nginx = &case.host.nginx;
    let sees_all = nginx.http2_listeners.is_empty() && case.is_complete();
    let limit = nginx.shutdown_timeouts_ms.first().filter(|_| sees_all)?;
    let detail = format!(
        "worker_shutdown_timeout is {limit} ms: so long after a reload or nginx -s quit a worker closes all it has left"
    );
    Some(Finding::supporting("shutdown_limited", Origins::NGINX, detail).valued(limit))
}
