//! The life of pods.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{Bed, on_a_node, wait_for};

fn container(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

#[test]
fn a_pod_runs_and_answers_at_its_address() {
    on_a_node(async |bed| {
        let start = Instant::now();
        bed.create_pod("web", json!({"containers": [{
            "name": "c", "image": "busybox",
            "command": ["sh", "-c", "echo hi $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"],
        }]}));
        let status = bed.until_ready("web").await;
        eprintln!("create to Ready: {:?}", start.elapsed());
        let ip = status["podIP"].as_str().unwrap();
        assert_eq!(ip, "10.244.7.2");
        assert_eq!(status["phase"], "Running");
        assert_eq!(container(&status)["image"], "docker.io/library/busybox:latest");
        let client = format!("http://{ip}:8080/index.html");
        wait_for("an answer from the pod", async || {
            let fetched = fetch(&client).await?;
            if fetched.contains("hi web") { Ok(()) } else { Err(fetched) }
        })
        .await;
        wait_for("kubelet's events", async || {
            let events = bed.api.events();
            let reasons: Vec<&str> = events.iter().map(|(reason, _)| reason.as_str()).collect();
            let all = ["Pulled", "Created", "Started"].iter().all(|r| reasons.contains(r));
            if all { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    });
}

async fn fetch(url: &str) -> Result<String, String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream =
        tokio::net::TcpStream::connect(host).await.map_err(|error| error.to_string())?;
    let request = format!("GET /{path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    Ok(text)
}

#[test]
fn ten_pods_start_side_by_side_with_addresses_of_their_own() {
    on_a_node(async |bed| {
        let start = Instant::now();
        for number in 0..10 {
            bed.create_shell(&format!("p{number}"), "sleep 1000", "Always");
        }
        let mut addresses = std::collections::HashSet::new();
        for number in 0..10 {
            let status = bed.until_ready(&format!("p{number}")).await;
            addresses.insert(status["podIP"].to_string());
        }
        eprintln!("ten pods, create to Ready: {:?}", start.elapsed());
        assert_eq!(addresses.len(), 10);
    });
}

#[test]
fn a_failing_container_restarts_with_a_growing_pause() {
    on_a_node(async |bed| {
        bed.create_shell("crash", "echo bye > /dev/termination-log; exit 3", "Always");
        let status = bed
            .api
            .until(&Bed::path("crash"), |pod| {
                let status = &pod?["status"];
                let waiting = &container(status)["state"]["waiting"]["reason"];
                (waiting == "CrashLoopBackOff").then(|| status.clone())
            })
            .await;
        let container = container(&status);
        assert_eq!(container["restartCount"], 1, "the first restart comes without a pause");
        let last = &container["lastState"]["terminated"];
        assert_eq!(last["exitCode"], 3);
        assert_eq!(last["reason"], "Error");
        assert_eq!(last["message"], "bye\n");
        let message = container["state"]["waiting"]["message"].as_str().unwrap();
        assert!(message.starts_with("back-off 10s restarting failed container=c"), "{message}");
        wait_for("the event about it", async || {
            let events = bed.api.events();
            let told = events.iter().any(|(reason, message)| {
                reason == "BackOff" && message.starts_with("Back-off restarting failed container c")
            });
            if told { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    });
}

#[test]
fn a_pod_that_has_done_its_work_succeeds_and_keeps_its_address_in_its_status() {
    on_a_node(async |bed| {
        bed.create_shell("job", "exit 0", "Never");
        let status = bed.until_phase("job", "Succeeded").await;
        assert_eq!(container(&status)["state"]["terminated"]["reason"], "Completed");
        bed.create_shell("fail", "exit 4", "Never");
        let status = bed.until_phase("fail", "Failed").await;
        assert_eq!(container(&status)["state"]["terminated"]["exitCode"], 4);
        let without_sandbox = |pod: Option<&Value>| {
            let status = &pod?["status"];
            let conditions = status["conditions"].as_array()?;
            let gone = |condition: &Value| {
                condition["type"] == "PodReadyToStartContainers" && condition["status"] == "False"
            };
            conditions.iter().any(gone).then(|| status.clone())
        };
        let status = bed.api.until(&Bed::path("fail"), without_sandbox).await;
        let address = status["podIP"].as_str().unwrap();
        assert_eq!(status["podIPs"][0]["ip"], address);
    });
}

#[test]
fn deletion_is_graceful_and_then_complete() {
    on_a_node(async |bed| {
        let script = "trap 'sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        bed.create_shell("web", script, "Always");
        bed.until_ready("web").await;
        bed.until_log("web", &["up"]).await;
        bed.delete_pod("web", 30);
        let start = Instant::now();
        bed.until_gone("web").await;
        let took = start.elapsed();
        assert!(took > Duration::from_millis(250), "it had its time: {took:?}");
        assert!(took < Duration::from_secs(10), "it did not need all of its grace: {took:?}");
        let pods = bed.config.state_dir.join("pods");
        wait_for("the pod's folder to go", async || {
            let left: Vec<_> =
                std::fs::read_dir(&pods).unwrap().flatten().map(|e| e.path()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        let cgroup = bed.config.cgroup_parent.clone();
        // Version 1 has a hierarchy for memory, version 2 one for all.
        let places = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(std::path::Path::new);
        let children = places
            .into_iter()
            .filter_map(|place| std::fs::read_dir(place.join(&cgroup[1..])).ok())
            .flatten()
            .flatten();
        let left: Vec<_> = children.filter(|e| e.path().is_dir()).map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn a_deletion_right_after_the_end_of_a_container_finds_no_new_run() {
    on_a_node(async |bed| {
        let script = "[ -e /d/ran ] || { echo > /d/ran; exit 0; }; while :; do sleep 1; done";
        bed.create_pod(
            "shell",
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{
                "name": "c", "image": "busybox", "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "v", "mountPath": "/d"}],
            }]}),
        );
        bed.api
            .until(&Bed::path("shell"), |pod| {
                let state = &container(&pod?["status"])["state"];
                (state["terminated"]["exitCode"] == 0).then_some(())
            })
            .await;
        // A second run would be a shell as process 1, deaf to SIGTERM for all of this grace.
        bed.delete_pod("shell", 30);
        bed.until_gone("shell").await;
    });
}

#[test]
fn a_pod_that_is_going_is_as_ready_as_its_containers() {
    on_a_node(async |bed| {
        let script = "trap 'echo > /tmp/draining' TERM; while :; do sleep 0.05; done";
        let probed = json!({"exec": {"command": ["sh", "-c", "[ ! -e /tmp/draining ]"]},
            "periodSeconds": 1, "failureThreshold": 1});
        let shell = ["sh", "-c", script];
        bed.create_pod(
            "web",
            json!({"containers": [
                {"name": "a", "image": "busybox", "command": shell},
                {"name": "b", "image": "busybox", "command": shell, "readinessProbe": probed},
            ]}),
        );
        bed.until_ready("web").await;
        bed.delete_pod("web", 6);
        // Only a probe that goes on while the pod is going can find out.
        bed.api
            .until(&Bed::path("web"), |pod| {
                let containers = &pod?["status"]["containerStatuses"];
                assert!(pod?["metadata"]["deletionTimestamp"].is_string());
                let runs = |place: usize| containers[place]["state"]["running"].is_object();
                assert!(
                    containers[0]["ready"] == true || !runs(0),
                    "no probe denies it: {containers}"
                );
                (runs(0) && runs(1) && containers[1]["ready"] == false).then_some(())
            })
            .await;
        bed.until_gone("web").await;
    });
}

#[test]
fn a_process_that_does_not_heed_its_signal_is_killed_after_its_grace() {
    on_a_node(async |bed| {
        let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        bed.create_shell("deaf", script, "Always");
        bed.until_ready("deaf").await;
        bed.until_log("deaf", &["up"]).await;
        let start = Instant::now();
        bed.delete_pod("deaf", 1);
        bed.until_gone("deaf").await;
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    });
}

#[test]
fn containers_outlive_the_agent_and_no_exit_code_is_lost() {
    on_a_node(async |bed| {
        bed.create_shell("stays", "sleep 1000", "Always");
        bed.create_shell("ends", "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 7", "Never");
        let before = bed.until_ready("stays").await;
        let ends = bed.until_ready("ends").await;
        let id = container(&ends)["containerID"].as_str().unwrap().to_owned();
        bed.stop_agent().await;
        // The container's root is found by its process's working folder.
        let pid = process_with_cgroup(&id["containerd://".len()..]);
        std::fs::write(format!("/proc/{pid}/root/tmp/go"), []).unwrap();
        wait_for("the container to end", async || {
            let alive = std::path::Path::new(&format!("/proc/{pid}")).exists();
            if alive { Err(format!("{pid} lives")) } else { Ok(()) }
        })
        .await;
        bed.start_agent().await;
        let status = bed.until_phase("ends", "Failed").await;
        assert_eq!(container(&status)["state"]["terminated"]["exitCode"], 7);
        let after = bed.until_ready("stays").await;
        assert_eq!(container(&after)["containerID"], container(&before)["containerID"]);
        assert_eq!(container(&after)["restartCount"], 0);
        assert_eq!(after["podIP"], before["podIP"]);
        // And it is still ours to stop.
        bed.delete_pod("stays", 1);
        bed.until_gone("stays").await;
    });
}

/// The first process in a container's cgroup.
fn process_with_cgroup(id: &str) -> i32 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut inside: Vec<i32> = pids
        .filter(|pid| {
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
            cgroup.is_ok_and(|text| text.contains(id))
        })
        .collect();
    inside.sort_unstable();
    *inside.first().expect("a process of the container")
}

#[test]
fn a_missing_image_is_told_with_the_way_out() {
    on_a_node(async |bed| {
        bed.create_pod("lost", json!({"containers": [{"name": "c", "image": "nope:1"}]}));
        let waiting_for = async |reason: &str| {
            bed.api
                .until(&Bed::path("lost"), |pod| {
                    let waiting = &container(&pod?["status"])["state"]["waiting"];
                    (waiting["reason"] == reason).then(|| waiting["message"].to_string())
                })
                .await
        };
        let message = waiting_for("ErrImagePull").await;
        assert!(message.contains("docker.io/library/nope:1"), "{message}");
        assert!(message.contains("minictl image import"), "{message}");
        let message = waiting_for("ImagePullBackOff").await;
        assert!(message.contains("Back-off pulling image"), "{message}");
        // The next try would be seconds away, but an import is noticed.
        bed.import("docker.io/library/nope:1").await;
        bed.until_ready("lost").await;
    });
}

#[test]
fn one_image_is_imported_several_times_at_once() {
    on_a_node(async |bed| {
        let mut imports = tokio::task::JoinSet::new();
        for namespace in ["one", "two", "one", "two", "test"] {
            let (socket, archive) = (bed.config.containerd_socket.clone(), bed.archive());
            imports.spawn(async move {
                agent::import_image(&socket, namespace, &archive).await.unwrap()
            });
        }
        for names in imports.join_all().await {
            assert_eq!(names, ["docker.io/library/busybox:latest"]);
        }
    });
}

#[test]
fn init_containers_prepare_what_main_containers_share() {
    on_a_node(async |bed| {
        bed.api.put(
            "/api/v1/namespaces/default/configmaps/cfg",
            json!({"metadata": {"name": "cfg"}, "data": {"colour": "red"}}),
        );
        let shell = |name: &str, script: &str| {
            json!({"name": name, "image": "busybox", "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "work", "mountPath": "/work"},
                    {"name": "cfg", "mountPath": "/cfg"}]})
        };
        let read = "cat /work/made; cat /cfg/colour; echo; hostname; cat /etc/resolv.conf; env; ls /dev/shm; exec sleep 1000";
        let mut main = shell("c", read);
        main["env"] =
            json!([{"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
        bed.create_pod(
            "two",
            json!({
                "initContainers": [shell("i", "echo made by init > /work/made")],
                "containers": [main, shell("d", "echo shared > /dev/shm/x; exec sleep 1000")],
                "volumes": [{"name": "work", "emptyDir": {}},
                    {"name": "cfg", "configMap": {"name": "cfg"}}],
            }),
        );
        let status = bed.until_ready("two").await;
        assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
        let expected = [
            "made by init",
            "red",
            "stdout F two",
            "nameserver 10.96.0.10",
            "MY_IP=10.244.7.2",
            "KUBERNETES_SERVICE_HOST=10.96.0.1",
            "FROM_IMAGE=yes",
        ];
        bed.until_log("two", &expected).await;
    });
}

#[test]
fn probes_hold_back_traffic_and_restart_what_hangs() {
    on_a_node(async |bed| {
        let ready = json!({"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1});
        let alive = json!({"exec": {"command": ["sh", "-c", "[ ! -e /tmp/dead ]"]},
            "periodSeconds": 1, "failureThreshold": 1});
        let script = "sleep 1; echo > /tmp/ready; sleep 2; echo > /tmp/dead; exec sleep 1000";
        bed.create_pod(
            "probed",
            json!({"terminationGracePeriodSeconds": 1, "containers": [{
                "name": "c", "image": "busybox", "command": ["sh", "-c", script],
                "readinessProbe": ready, "livenessProbe": alive,
            }]}),
        );
        let running = bed.until_phase("probed", "Running").await;
        assert_eq!(container(&running)["ready"], false, "not before its probe succeeds");
        bed.until_ready("probed").await;
        bed.api
            .until(&Bed::path("probed"), |pod| {
                (container(&pod?["status"])["restartCount"] == 1).then_some(())
            })
            .await;
        let events = bed.api.events();
        let killing = (
            "Killing".to_owned(),
            "Container c failed liveness probe, will be restarted".to_owned(),
        );
        assert!(events.contains(&killing), "{events:?}");
    });
}

#[test]
fn too_much_memory_is_told_as_such() {
    on_a_node(async |bed| {
        let script = "dd if=/dev/zero of=/dev/null bs=200M count=1";
        bed.create_pod("hungry", json!({"restartPolicy": "Never", "containers": [{
            "name": "c", "image": "busybox", "command": ["sh", "-c", format!("{script}; exit $?")],
            "resources": {"limits": {"memory": "32Mi"}},
        }]}));
        let status = bed.until_phase("hungry", "Failed").await;
        let terminated = &container(&status)["state"]["terminated"];
        assert_eq!(terminated["reason"], "OOMKilled", "{terminated}");
        assert_eq!(terminated["exitCode"], 137);
    });
}

#[test]
fn a_command_that_does_not_exist_is_a_start_error() {
    on_a_node(async |bed| {
        bed.create_pod(
            "typo",
            json!({"restartPolicy": "Never", "containers": [{
                "name": "c", "image": "busybox", "command": ["/nope"],
            }]}),
        );
        let status = bed.until_phase("typo", "Failed").await;
        let terminated = &container(&status)["state"]["terminated"];
        assert_eq!(terminated["reason"], "StartError");
        assert_eq!(terminated["exitCode"], 128);
        assert!(terminated["message"].as_str().unwrap().contains("/nope"), "{terminated}");
    });
}

#[test]
fn a_pod_on_the_nodes_network_has_the_nodes_address_and_name() {
    on_a_node(async |bed| {
        bed.create_pod(
            "host",
            json!({"hostNetwork": true, "containers": [{
                "name": "c", "image": "busybox", "command": ["sh", "-c",
                    "hostname > /tmp/index.html; exec httpd -f -p 8081 -h /tmp"],
            }]}),
        );
        let status = bed.until_ready("host").await;
        assert_eq!(status["podIP"], "192.168.56.70");
        wait_for("an answer on the node itself", async || {
            let fetched = fetch("http://127.0.0.1:8081/index.html").await?;
            if fetched.contains("node-1") { Ok(()) } else { Err(fetched) }
        })
        .await;
    });
}
