//! What a Deployment does, step by step, with replica sets that obey.

use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::progress::{PROGRESSING, get};
use super::*;
use crate::view::Object;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "web-uid", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": strategy,
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "nginx:1" }] },
            },
        },
    }))
    .unwrap()
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({
        "type": "RollingUpdate",
        "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable },
    })
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let spec = deployment.spec.as_mut().unwrap();
    spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    deployment.metadata.generation = Some(deployment.metadata.generation.unwrap() + 1);
}

/// A Deployment and its replica sets, to which plans are applied.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    events: Vec<String>,
    clock: i64,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), events: Vec::new(), clock: 1000 }
    }

    /// Plans and applies once; answers whether anything was written.
    fn step(&mut self) -> bool {
        self.clock += 1;
        let plan = plan(&self.deployment, &self.sets, &[], at(self.clock));
        let wrote = !plan.writes.is_empty();
        for write in plan.writes {
            self.apply(write);
        }
        wrote
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Create(Object::ReplicaSet(mut set)) => {
                assert!(self.sets.iter().all(|held| held.metadata.name != set.metadata.name));
                set.metadata.uid = Some(format!("uid-{}", self.clock));
                set.metadata.creation_timestamp = Some(Time(at(self.clock)));
                self.sets.push(Arc::new(*set));
            }
            Write::Update(Object::ReplicaSet(set)) => {
                let held = self.sets.iter_mut().find(|held| held.metadata.uid == set.metadata.uid);
                *held.unwrap() = Arc::new(*set);
            }
            Write::UpdateStatus(Object::Deployment(deployment)) => {
                self.deployment.status = deployment.status;
                self.deployment.metadata.annotations = deployment.metadata.annotations;
            }
            Write::Delete { target, .. } => {
                self.sets.retain(|held| held.metadata.uid.as_ref() != Some(&target.uid));
            }
            Write::Event(occurrence) => self.events.push(occurrence.message),
            other => panic!("not a write of this controller: {other:?}"),
        }
    }

    /// Each set has as many pods as it should; of those, at most `limit` more become available.
    fn obey(&mut self, limit: i32) {
        for set in &mut self.sets {
            let size = scale::size(set);
            let available = (scale::available(set) + limit).min(size);
            let mut next = (**set).clone();
            next.status = Some(ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(available),
                available_replicas: Some(available),
                observed_generation: next.metadata.generation,
                ..ReplicaSetStatus::default()
            });
            *set = Arc::new(next);
        }
    }

    fn settle(&mut self) {
        for _ in 0..500 {
            let wrote = self.step();
            self.obey(1);
            if !wrote && !self.step() {
                return;
            }
        }
        panic!("never settles: {:#?}", self.sizes());
    }

    fn sizes(&self) -> Vec<(String, i32)> {
        let revision = |set: &ReplicaSet| revision::revision_of(set).to_string();
        self.sets.iter().map(|set| (revision(set), scale::size(set))).collect()
    }

    fn size_of(&self, revision: i64) -> Option<i32> {
        let found = self.sets.iter().find(|set| revision::revision_of(set) == revision)?;
        Some(scale::size(found))
    }

    /// The pods that are available whatever the sets do next: each loses its others first.
    fn surely_available(&self) -> i32 {
        self.sets.iter().map(|set| scale::available(set).min(scale::size(set))).sum()
    }

    fn reason(&self) -> Option<String> {
        get(self.deployment.status.as_ref()?, PROGRESSING)?.reason.clone()
    }
}

#[test]
fn the_first_plan_makes_the_replica_set_and_says_so() {
    let mut world = World::new(deployment(3, rolling(json!("25%"), json!("25%"))));
    assert!(world.step());
    let set = &world.sets[0];
    let name = meta::name(&**set).to_owned();
    assert_eq!(world.events, [format!("Scaled up replica set {name} from 0 to 3")]);
    assert_eq!(world.reason().as_deref(), Some("NewReplicaSetCreated"));
    assert_eq!(meta::annotation(&world.deployment, REVISION), Some("1"));
    let hash = name.strip_prefix("web-").unwrap();
    let spec = set.spec.as_ref().unwrap();
    assert_eq!(spec.selector.match_labels.as_ref().unwrap()["pod-template-hash"], hash);
    let template = spec.template.as_ref().unwrap().metadata.as_ref().unwrap();
    assert_eq!(template.labels.as_ref().unwrap()["pod-template-hash"], hash);
    assert_eq!(meta::label(&**set, "pod-template-hash"), Some(hash));
    assert_eq!(meta::annotation(&**set, "deployment.kubernetes.io/desired-replicas"), Some("3"));
    assert_eq!(meta::annotation(&**set, "deployment.kubernetes.io/max-replicas"), Some("4"));
}

#[test]
fn progress_is_told_until_the_rollout_is_complete() {
    let mut world = World::new(deployment(2, rolling(json!(1), json!(0))));
    world.step();
    world.obey(0);
    world.step();
    assert_eq!(world.reason().as_deref(), Some("ReplicaSetUpdated"));
    world.settle();
    assert_eq!(world.reason().as_deref(), Some("NewReplicaSetAvailable"));
    let status = world.deployment.status.clone().unwrap();
    let progressing = get(&status, PROGRESSING).unwrap();
    let name = meta::name(&*world.sets[0]);
    let text = format!("ReplicaSet {name:?} has successfully progressed.");
    assert_eq!(progressing.message.as_ref(), Some(&text));
}

#[test]
fn a_rolling_update_takes_upstreams_steps() {
    let mut world = World::new(deployment(3, rolling(json!(1), json!(0))));
    world.settle();
    world.events.clear();
    set_image(&mut world.deployment, "nginx:2");
    world.settle();
    let (old, new) = (meta::name(&*world.sets[0]), meta::name(&*world.sets[1]));
    assert_eq!(
        world.events,
        [
            format!("Scaled up replica set {new} from 0 to 1"),
            format!("Scaled down replica set {old} from 3 to 2"),
            format!("Scaled up replica set {new} from 1 to 2"),
            format!("Scaled down replica set {old} from 2 to 1"),
            format!("Scaled up replica set {new} from 2 to 3"),
            format!("Scaled down replica set {old} from 1 to 0"),
        ]
    );
}

#[test]
fn pods_that_never_became_available_go_first() {
    let mut world = World::new(deployment(4, rolling(json!(1), json!(1))));
    world.settle();
    set_image(&mut world.deployment, "broken");
    world.step();
    world.obey(0);
    while world.step() {
        world.obey(0);
    }
    assert_eq!(
        world.sizes(),
        [("1".to_owned(), 3), ("2".to_owned(), 2)],
        "stuck on the broken one"
    );
    set_image(&mut world.deployment, "nginx:3");
    world.step();
    world.obey(0);
    world.step();
    assert_eq!(world.size_of(2), Some(0), "the broken pods served nobody");
    assert_eq!(world.size_of(1), Some(3));
    world.settle();
    assert_eq!(world.size_of(3), Some(4));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_shares_by_size() {
    let mut world = World::new(deployment(10, rolling(json!(3), json!(2))));
    world.settle();
    set_image(&mut world.deployment, "nginx:2");
    for _ in 0..4 {
        world.step();
        world.obey(0);
    }
    assert_eq!(world.sizes(), [("1".to_owned(), 8), ("2".to_owned(), 5)]);
    // Upstream's documentation has this very example.
    world.deployment.spec.as_mut().unwrap().replicas = Some(15);
    world.step();
    assert_eq!(world.sizes(), [("1".to_owned(), 11), ("2".to_owned(), 7)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment(2, rolling(json!(1), json!(0))));
    world.settle();
    let spec = world.deployment.spec.as_mut().unwrap();
    spec.paused = Some(true);
    spec.replicas = Some(3);
    set_image(&mut world.deployment, "nginx:2");
    world.settle();
    assert_eq!(world.sizes(), [("1".to_owned(), 3)]);
    assert_eq!(world.reason().as_deref(), Some("DeploymentPaused"));
    world.deployment.spec.as_mut().unwrap().paused = Some(false);
    world.settle();
    assert_eq!(world.size_of(2), Some(3));
    assert_eq!(world.reason().as_deref(), Some("NewReplicaSetAvailable"));
}

#[test]
fn no_more_history_is_kept_than_asked_for() {
    let mut world = World::new(deployment(1, rolling(json!(1), json!(0))));
    world.settle();
    for version in 2..=5 {
        set_image(&mut world.deployment, &format!("nginx:{version}"));
        world.settle();
    }
    let sizes = world.sizes();
    let kept: Vec<&str> = sizes.iter().map(|(revision, _)| revision.as_str()).collect();
    assert_eq!(kept, ["3", "4", "5"]);
}

#[test]
fn going_back_reuses_the_replica_set_and_remembers_its_old_number() {
    let mut world = World::new(deployment(1, rolling(json!(1), json!(0))));
    world.settle();
    set_image(&mut world.deployment, "nginx:2");
    world.settle();
    set_image(&mut world.deployment, "nginx:1");
    world.settle();
    assert_eq!(world.sets.len(), 2);
    assert_eq!(world.size_of(3), Some(1));
    let set = &world.sets[0];
    assert_eq!(meta::annotation(&**set, "deployment.kubernetes.io/revision-history"), Some("1"));
    assert_eq!(meta::annotation(&world.deployment, REVISION), Some("3"));
}

#[test]
fn a_taken_name_leads_to_another_hash() {
    let mut world = World::new(deployment(1, rolling(json!(1), json!(0))));
    let taken = revision::new_set(&world.deployment, &[], 0).unwrap();
    let mut stranger = ReplicaSet::default();
    stranger.metadata.name.clone_from(&taken.metadata.name);
    stranger.metadata.uid = Some("stranger".to_owned());
    world.sets.push(Arc::new(stranger));
    world.step();
    let status = world.deployment.status.clone().unwrap();
    assert_eq!(status.collision_count, Some(1));
    world.step();
    assert_eq!(world.sets.len(), 2);
    assert_ne!(world.sets[1].metadata.name, taken.metadata.name);
}

#[test]
fn a_deployment_that_goes_away_only_counts() {
    let mut world = World::new(deployment(2, rolling(json!(1), json!(0))));
    world.settle();
    world.deployment.metadata.deletion_timestamp = Some(Time(at(1)));
    world.deployment.spec.as_mut().unwrap().replicas = Some(9);
    let plan = plan(&world.deployment, &world.sets, &[], at(5000));
    assert!(
        plan.writes.iter().all(|write| matches!(write, Write::UpdateStatus(_))),
        "{:?}",
        plan.writes
    );
}

#[test]
fn a_stuck_rollout_is_looked_at_again_at_its_deadline() {
    let mut world = World::new(deployment(1, rolling(json!(1), json!(0))));
    world.step();
    world.obey(0);
    while world.step() {}
    let quiet = plan(&world.deployment, &world.sets, &[], at(world.clock));
    let wait = quiet.recheck.expect("a rollout that waits has a deadline");
    assert!((590..=601).contains(&wait.as_secs()), "{wait:?}");
    world.clock += i64::try_from(wait.as_secs()).unwrap();
    world.step();
    assert_eq!(world.reason().as_deref(), Some("ProgressDeadlineExceeded"));
    world.settle();
    assert_eq!(world.reason().as_deref(), Some("NewReplicaSetAvailable"), "it may still succeed");
}

#[test]
fn a_failed_creation_is_told_in_upstreams_words() {
    let world = World::new(deployment(1, rolling(json!(1), json!(0))));
    let set = revision::new_set(&world.deployment, &[], 0).unwrap();
    let writes = creation_failed(&world.deployment, "no", at(1));
    let Write::Event(occurrence) = &writes[0] else { panic!("{writes:?}") };
    assert_eq!(occurrence.reason, "ReplicaSetCreateError");
    let text = format!("Failed to create new replica set {:?}: no", meta::name(&set));
    assert_eq!(occurrence.message, text);
    assert!(matches!(writes[1], Write::UpdateStatus(_)));
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..5_i32).prop_map(|n| json!(n)),
        (0..=100_i32).prop_map(|n| json!(format!("{n}%")))
    ]
}

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Happening {
    Obey(i32),
    Image(u8),
    Scale(i32),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..4_i32).prop_map(Happening::Obey),
        1 => (1..4_u8).prop_map(Happening::Image),
        1 => (0..8_i32).prop_map(Happening::Scale),
    ]
}

proptest! {
    #[test]
    fn any_history_stays_within_bounds_and_ends_as_wished(
        replicas in 1..10_i32,
        surge in amount(),
        unavailable in amount(),
        history in prop::collection::vec(happening(), 0..40),
    ) {
        let mut world = World::new(deployment(replicas, rolling(surge, unavailable)));
        for happening in history {
            let before = world.deployment.clone();
            match happening {
                Happening::Obey(limit) => world.obey(limit),
                Happening::Image(n) => set_image(&mut world.deployment, &format!("nginx:{n}")),
                Happening::Scale(n) => {
                    world.deployment.spec.as_mut().unwrap().replicas = Some(n);
                }
            }
            // A changed wish moves the bounds themselves; a plain step must keep them.
            let same_wish = scale::wanted(&before) == scale::wanted(&world.deployment);
            let (total, available) = (scale::total(&world.sets), world.surely_available());
            let scaling = scale::is_scaling(&world.deployment, &world.sets);
            world.step();
            let most = scale::wanted(&world.deployment) + scale::max_surge(&world.deployment);
            let least = scale::wanted(&world.deployment) - scale::max_unavailable(&world.deployment);
            if same_wish && !scaling {
                prop_assert!(scale::total(&world.sets) <= most.max(total), "{:?}", world.sizes());
                let kept = world.surely_available();
                prop_assert!(kept >= least.min(available), "{kept} < {least}: {:?}", world.sizes());
            }
        }
        world.settle();
        let wanted = scale::wanted(&world.deployment);
        let newest = world.sets.iter().map(|set| revision::revision_of(set)).max().unwrap();
        prop_assert_eq!(world.size_of(newest), Some(wanted));
        prop_assert_eq!(scale::total(&world.sets), wanted);
        let again = plan(&world.deployment, &world.sets, &[], at(world.clock + 1));
        prop_assert!(again.writes.is_empty(), "a settled plan is empty: {:?}", again.writes);
    }
}
