//! A capture shows a RST in the name of Nginx's end, and none had come.

use crate::judge::finding::Origins;
use crate::model::verdict::{Cause, Party};
use crate::model::{EventKind, Socket};

use super::{Look, Rule, TLS_ALERT_BYTES};

/// The rules, from the top.
pub const RULES: &[Rule] = &[
    Rule {
        name: "captured/device_after_silence",
        when: |look| elsewhere(look) && look.long_idle(),
        party: Party::Middlebox,
        cause: Cause::MiddleboxIdleReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "captured/device",
        when: elsewhere,
        party: Party::Middlebox,
        cause: Cause::MiddleboxForgedReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "captured/nobody_listens",
        when: |look| look.has("syn_refused") && look.case.is_client(),
        party: Party::Nginx,
        cause: Cause::NginxNotListening,
        origins: Origins::NGINX,
    },
    Rule {
        name: "captured/limit_of_the_configuration",
        when: |look| !look.case.is_client() && look.has("log_limit"),
        party: Party::Nginx,
        cause: Cause::NginxConfig,
        origins: Origins::NGINX,
    },
    Rule {
        name: "captured/answer_awaited_in_vain",
        when: |look| !look.case.is_client() && look.has("log_timed_out"),
        party: Party::Upstream,
        cause: Cause::UpstreamSlow,
        origins: Origins::SLOW,
    },
    Rule {
        name: "captured/client_went_first",
        when: |look| look.has("client_went_first"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "captured/client_left_its_request",
        when: |look| client_had_closed(look) && something_due(look) && !look.case.state().we_closed(),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "captured/client_had_closed",
        when: |look| client_had_closed(look) && !something_due(look),
        party: Party::Client,
        cause: Cause::ClientLateReset,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "captured/alert_after_close",
        when: |look| look.has("late_data") && look.case.is_client() && only_an_alert(look),
        party: Party::Client,
        cause: Cause::ClientLateReset,
        origins: Origins::NGINX,
    },
    Rule {
        name: "captured/timed_out",
        when: |look| look.case.is_client() && (look.has("log_timed_out") || look.has("reset_after_silence")),
        party: Party::Nginx,
        cause: Cause::NginxTimeoutReset,
        origins: Origins::NGINX,
    },
    Rule {
        name: "captured/reset_by_nginx",
        when: |look| !look.case.connecting(),
        party: Party::Nginx,
        cause: Cause::NginxClosedUnread,
        origins: Origins::NGINX,
    },
];

fn elsewhere(look: &Look) -> bool {
    look.decided(Origins::DEVICE) || look.sent_from_elsewhere()
}

/// The client's FIN had come, and nothing after it that Nginx's kernel could only refuse.
fn client_had_closed(look: &Look) -> bool {
    look.case.is_client() && look.has("fin_before") && !look.has("late_data") && !look.has("log_limit")
}

/// The client's last request has no answer, or the answer had not reached it.
fn something_due(look: &Look) -> bool {
    let unanswered = look.case.socket().is_some_and(Socket::owes_answer);
    unanswered || look.case.outstanding() > look.case.longest_farewell()
}

/// The client answered Nginx's close with a TLS `close_notify`; nothing was lost.
fn only_an_alert(look: &Look) -> bool {
    let answered = look.case.incident.reset_seen().and_then(|event| match &event.kind {
        EventKind::ResetSeen { answers, .. } => answers.as_ref(),
        _ => None,
    });
    let short = answered.is_some_and(|packet| packet.payload_len <= TLS_ALERT_BYTES);
    short && look.case.is_tls() != Some(false)
}
