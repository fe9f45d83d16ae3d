//! The command lines of the course notes, and kubectl's ways to write flags.

use clap::{CommandFactory, Parser};

use crate::{Globals, Verb};

#[derive(Debug, Parser)]
#[command(name = "kubectl")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn verb(line: &str) -> Verb {
    parse(line).unwrap_or_else(|e| panic!("{line}: {e}")).verb
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_commands_of_the_notes_parse() {
    for line in [
        "kubectl apply -f ClusterIP.yaml",
        "kubectl get pods -l run=clusterip-nginx -o wide",
        "kubectl get pods --selector=run=clusterip-nginx --output=wide",
        "kubectl expose deployment/clusterip-nginx",
        "kubectl describe svc clusterip-nginx",
        "kubectl get ep clusterip-nginx",
        "kubectl run busybox --rm -it --image=busybox /bin/sh",
        "kubectl create deployment httpd --image=httpd",
        "kubectl describe replicasets",
        "kubectl expose deployment hello-world --type=LoadBalancer --name=exservice",
        "kubectl create -f service-definition.yml",
        "kubectl service servicename --url",
        "kubectl exec http-go-rs-4152m -- curl 10.12.0.237:80 -s",
        "kubectl cluster-info",
        "kubectl logs -f web -c c --tail=5",
        "kubectl logs deploy/web --all-containers --prefix",
        "kubectl scale rs/frontend --replicas=4 --current-replicas=2",
        "kubectl delete pods -l tier=frontend --grace-period=0 --force",
        "kubectl delete rs frontend --cascade=orphan --wait=false",
        "kubectl label pods a b=c d- --overwrite",
        "kubectl annotate pod/a b=c",
        "kubectl patch svc a --type=merge -p {}",
        "kubectl rollout status deployment/web -w=false",
        "kubectl wait --for=condition=Ready pod/web --timeout=60s",
        "kubectl create service nodeport web --tcp=80:8080",
        "kubectl create configmap cm --from-literal=a=b --dry-run=client -o yaml",
        "kubectl create ns foo",
        "kubectl apply view-last-applied svc/a",
        "kubectl api-resources --namespaced=true --verbs=list,get -o name",
        "kubectl get all -A",
    ] {
        verb(line);
    }
}

#[test]
fn switches_take_values_and_words_after_them_stay_arguments() {
    let Verb::Run(run) = verb("kubectl run b --rm=true -i -t --image=x sh") else { panic!() };
    assert!(run.rm && run.stdin && run.tty && !run.quiet);
    assert_eq!(run.arguments, ["sh"]);
    let Verb::Get(get) = verb("kubectl get --watch=false --ignore-not-found=true pods") else {
        panic!()
    };
    assert!(!get.watch && get.ignore_not_found);
    assert_eq!(get.resources, ["pods"]);
}

#[test]
fn global_flags_stand_anywhere() {
    for line in ["kubectl -n foo get pods", "kubectl get pods -n foo", "kubectl get -nfoo pods"] {
        assert_eq!(parse(line).unwrap().globals.namespace.as_deref(), Some("foo"), "{line}");
    }
}

#[test]
fn a_command_stands_behind_two_dashes() {
    let Verb::Exec(exec) = verb("kubectl exec -it web -c c -- sh -c ls") else { panic!() };
    assert!(exec.stdin && exec.tty);
    assert_eq!(exec.command, ["sh", "-c", "ls"]);
    let Verb::Run(run) = verb("kubectl run a --image=x --command -- sh -c ls") else { panic!() };
    assert!(run.command);
    assert_eq!(run.arguments, ["sh", "-c", "ls"]);
    let Verb::Create(create) = verb("kubectl create deployment a --image=x -- sleep 3") else {
        panic!()
    };
    let Some(crate::create::What::Deployment(generator)) = create.what else { panic!() };
    assert_eq!(generator.flags.command, ["sleep", "3"]);
}

#[test]
fn a_misspelt_flag_or_verb_names_the_right_one() {
    let e = parse("kubectl get pods --ouutput=wide").unwrap_err().to_string();
    assert!(e.contains("--output"), "{e}");
    let e = parse("kubectl exec web --curl").unwrap_err().to_string();
    assert!(e.contains("--curl"), "{e}");
    let e = parse("kubectl cluster info").unwrap_err().to_string();
    assert!(e.contains("cluster-info"), "{e}");
}

#[test]
fn dry_run_without_a_value_means_client() {
    let Verb::Apply(apply) = verb("kubectl apply --dry-run -f x.yaml") else { panic!() };
    assert_eq!(apply.files.filename, ["x.yaml"]);
    let Verb::Apply(apply) = verb("kubectl apply -f x.yaml --dry-run=server") else { panic!() };
    assert_eq!(apply.output.dry_run, crate::report::DryRun::Server);
}
