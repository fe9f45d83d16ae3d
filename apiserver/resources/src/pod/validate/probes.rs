//! Probes and lifecycle hooks (upstream: `validateProbe`, `validateLifecycle`, `validateHandler`).

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction,
};

use super::Surroundings;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::ports::validate_port;

/// What a probe or a hook does; at most one may be set.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

pub(super) fn validate(
    container: &Container,
    around: &Surroundings<'_>,
    path: &Path,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        for (field, hook) in
            [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)]
        {
            if let Some(hook) = hook {
                errors.extend(handler(&of_hook(hook), around, &path.child(field)));
            }
        }
    }
    if let Some(liveness) = &container.liveness_probe {
        errors.extend(once(liveness, around, &path.child("livenessProbe")));
    }
    if let Some(readiness) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        errors.extend(probe(readiness, around, &path));
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            let path = path.child("terminationGracePeriodSeconds");
            errors.push(path.invalid(seconds, "must not be set for readinessProbes"));
        }
    }
    if let Some(startup) = &container.startup_probe {
        errors.extend(once(startup, around, &path.child("startupProbe")));
    }
    errors
}

/// A probe that must succeed once only.
fn once(probed: &Probe, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    let mut errors = probe(probed, around, path);
    let successes = probed.success_threshold.unwrap_or_default();
    if successes != 1 {
        errors.push(path.child("successThreshold").invalid(successes, "must be 1"));
    }
    errors
}

fn probe(probe: &Probe, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    let action = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    let mut errors = handler(&action, around, path);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.extend(path.child(field).negative(value.unwrap_or_default()));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|&s| s <= 0) {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(path.invalid(seconds, "must be greater than 0"));
    }
    errors
}

fn of_hook(hook: &LifecycleHandler) -> Handler<'_> {
    Handler {
        exec: hook.exec.as_ref(),
        http_get: hook.http_get.as_ref(),
        tcp_socket: hook.tcp_socket.as_ref(),
        grpc: None,
        sleep: hook.sleep.as_ref(),
    }
}

fn handler(handler: &Handler<'_>, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    let exec = path.child("exec");
    let http_get = path.child("httpGet");
    let tcp_socket = path.child("tcpSocket");
    let grpc = path.child("grpc");
    let sleep = path.child("sleep");
    let actions = [
        handler.exec.map(|a| (exec.clone(), exec_action(a, &exec))),
        handler.http_get.map(|a| (http_get.clone(), http_action(a, &http_get))),
        handler
            .tcp_socket
            .map(|a| (tcp_socket.clone(), validate_port(&tcp_socket.child("port"), &a.port))),
        handler.grpc.map(|a| {
            let problems = names::port_number(a.port);
            (grpc.clone(), grpc.child("port").invalid_for_each(a.port, problems))
        }),
        handler.sleep.map(|a| (sleep.clone(), sleep_action(a, around, &sleep))),
    ];
    let mut actions = actions.into_iter().flatten();
    let Some((_, mut errors)) = actions.next() else {
        return vec![path.required("must specify a handler type")];
    };
    errors.extend(
        actions.map(|(path, _)| path.forbidden("may not specify more than 1 handler type")),
    );
    errors
}

fn exec_action(action: &ExecAction, path: &Path) -> FieldErrors {
    let empty = action.command.as_ref().is_none_or(Vec::is_empty);
    if empty { vec![path.child("command").required("")] } else { Vec::new() }
}

fn http_action(action: &HTTPGetAction, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if action.path.as_deref().unwrap_or_default().is_empty() {
        errors.push(path.child("path").required(""));
    }
    errors.extend(validate_port(&path.child("port"), &action.port));
    let scheme = action.scheme.as_deref().unwrap_or_default();
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.push(path.child("scheme").not_supported(scheme, &["HTTP", "HTTPS"]));
    }
    for header in action.http_headers.iter().flatten() {
        let name = &header.name;
        let path = path.child("httpHeaders");
        errors.extend(path.invalid_for_each(name, names::http_header_name(name)));
    }
    errors
}

fn sleep_action(action: &SleepAction, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    match around.grace_period {
        Some(grace) if !(0..=grace).contains(&action.seconds) => vec![path.invalid(
            action.seconds,
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
        )],
        _ => Vec::new(),
    }
}
