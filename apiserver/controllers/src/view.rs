//! All caches together: what the controllers know of the cluster.
//!
//! Owns: one [`Cache`] per kind, shared by all controllers (one list and one watch per kind).
//! Deliberately not here: the filling of the caches (`reflector`) and what to do (`plan`s).

use std::fmt::Debug;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, Ingress, IngressClass, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use resources::address_pool::AddressPool;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::{Cache, Key};
use crate::controllers::ResourceId;
use crate::meta::Held;
use crate::words;

/// A kind that the view holds.
pub(crate) trait Kind:
    Resource + Held + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
    /// Whether objects live in namespaces.
    const NAMESPACED: bool;
    /// The kind's cache.
    fn cache(view: &View) -> &Cache<Self>;
    /// The kind's place in the API.
    fn resource() -> ResourceId {
        ResourceId {
            group: Self::GROUP,
            version: Self::VERSION,
            plural: Self::URL_PATH_SEGMENT,
            kind: Self::KIND,
            namespaced: Self::NAMESPACED,
        }
    }
}

macro_rules! kinds {
    ($($kind:ident, $cache:ident, $namespaced:literal $(, $words:path)?;)*) => {
        /// What the controllers know of the cluster.
        #[derive(Default)]
        pub(crate) struct View {
            $(pub(crate) $cache: Cache<$kind>,)*
        }

        /// An object of any kind in the view.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Object {
            $($kind(Box<$kind>),)*
        }

        $(
            impl Kind for $kind {
                const NAMESPACED: bool = $namespaced;
                fn cache(view: &View) -> &Cache<Self> {
                    &view.$cache
                }
            }

            impl Held for $kind {
                fn meta(&self) -> &ObjectMeta {
                    &self.metadata
                }

                fn meta_mut(&mut self) -> &mut ObjectMeta {
                    &mut self.metadata
                }

                $(
                    fn words(&self) -> Vec<String> {
                        $words(self)
                    }
                )?
            }

            impl From<$kind> for Object {
                fn from(object: $kind) -> Self {
                    Self::$kind(Box::new(object))
                }
            }
        )*

        impl Object {
            /// The kind's place in the API.
            pub(crate) fn resource(&self) -> ResourceId {
                match self { $(Self::$kind(_) => $kind::resource(),)* }
            }

            /// The object's metadata.
            pub(crate) fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => &object.metadata,)* }
            }

            /// The object as JSON, with `apiVersion` and `kind`.
            pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self { $(Self::$kind(object) => serde_json::to_vec(object),)* }
            }

            /// Reads an object of the same kind as `self`.
            pub(crate) fn read_same(&self, json: &str) -> Result<Self, serde_json::Error> {
                Ok(match self {
                    $(Self::$kind(_) => Self::from(serde_json::from_str::<$kind>(json)?),)*
                })
            }
        }

        impl View {
            /// Takes in the answer to one of our writes.
            pub(crate) fn absorb(&self, object: Object) {
                match object { $(Object::$kind(object) => self.$cache.absorb(*object),)* }
            }

            /// Takes in the answer to a write of any resource; what the view does not hold is
            /// left out.
            pub(crate) fn absorb_json(
                &self,
                resource: &ResourceId,
                json: &str,
            ) -> Result<(), serde_json::Error> {
                $(
                    if *resource == $kind::resource() {
                        self.$cache.absorb(serde_json::from_str::<$kind>(json)?);
                    }
                )*
                Ok(())
            }

            /// We removed this object.
            pub(crate) fn absorb_removed(&self, resource: &ResourceId, key: &Key, uid: &str) {
                $(
                    if *resource == $kind::resource() {
                        self.$cache.absorb_removed(key, uid);
                    }
                )*
            }
        }
    };
}

kinds! {
    Pod, pods, true, words::of_pod;
    ReplicaSet, replica_sets, true;
    Deployment, deployments, true;
    Service, services, true, words::of_service;
    Endpoints, endpoints, true;
    EndpointSlice, endpoint_slices, true, words::of_slice;
    Node, nodes, false;
    Namespace, namespaces, false;
    ServiceAccount, service_accounts, true;
    ConfigMap, config_maps, true;
    Lease, leases, true;
    ServiceCIDR, service_cidrs, false;
    IPAddress, ip_addresses, false;
    Ingress, ingresses, true;
    IngressClass, ingress_classes, false;
    AddressPool, address_pools, false;
}
