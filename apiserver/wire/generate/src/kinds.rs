//! The kinds whose definitions are written: those that are served or soon will be, and those that
//! only ever travel as bodies.

use k8s_openapi::Resource;
use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling, autoscaling::v2 as autoscaling_v2, batch::v1 as batch,
    coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
    storage::v1 as storage,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::{JsonSchema, SchemaGenerator};

/// A kind and the name of its definition.
pub struct Kind {
    pub definition: String,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

fn add<K: JsonSchema + Resource>(generator: &mut SchemaGenerator) -> Kind {
    generator.subschema_for::<K>();
    let definition = K::schema_name().into_owned();
    Kind {
        definition,
        group: K::GROUP,
        version: K::VERSION,
        kind: K::KIND,
    }
}

macro_rules! add_all {
    ($generator:expr, $($kind:ty),+ $(,)?) => { vec![$(add::<$kind>($generator)),+] };
}

/// Adds every kind, and all that it refers to, to the generator's definitions.
pub fn add_all(generator: &mut SchemaGenerator) -> Vec<Kind> {
    generator.subschema_for::<meta::DeleteOptions>();
    // The library does not know it as a kind: it is one of every group.
    let delete_options = Kind {
        definition: meta::DeleteOptions::schema_name().into_owned(),
        group: "",
        version: "v1",
        kind: "DeleteOptions",
    };
    let mut kinds = add_all!(
        generator,
        core::Binding,
        core::ConfigMap,
        core::Endpoints,
        core::Event,
        core::LimitRange,
        core::Namespace,
        core::Node,
        core::PersistentVolume,
        core::PersistentVolumeClaim,
        core::Pod,
        core::ReplicationController,
        core::ResourceQuota,
        core::Secret,
        core::Service,
        core::ServiceAccount,
        apps::ControllerRevision,
        apps::DaemonSet,
        apps::Deployment,
        apps::ReplicaSet,
        apps::StatefulSet,
        authentication::SelfSubjectReview,
        authentication::TokenRequest,
        authentication::TokenReview,
        authorization::LocalSubjectAccessReview,
        authorization::SelfSubjectAccessReview,
        authorization::SelfSubjectRulesReview,
        authorization::SubjectAccessReview,
        autoscaling::HorizontalPodAutoscaler,
        autoscaling::Scale,
        autoscaling_v2::HorizontalPodAutoscaler,
        batch::CronJob,
        batch::Job,
        coordination::Lease,
        discovery::EndpointSlice,
        events::Event,
        networking::IPAddress,
        networking::Ingress,
        networking::IngressClass,
        networking::NetworkPolicy,
        networking::ServiceCIDR,
        policy::Eviction,
        policy::PodDisruptionBudget,
        rbac::ClusterRole,
        rbac::ClusterRoleBinding,
        rbac::Role,
        rbac::RoleBinding,
        storage::StorageClass,
        meta::Status,
    );
    kinds.push(delete_options);
    kinds
}
