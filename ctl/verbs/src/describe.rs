//! `describe`: what a person wants to know of an object, with its events.
use crate::context::Context;
use crate::error::Error;
use serde_json::Value;
/// x
#[derive(clap::Args, Clone, Debug)]
pub struct Describe {
    /// x
    pub resources: Vec<String>,
}
impl Describe {
    pub(crate) async fn run(&self, _ctx: &mut Context<'_>) -> Result<(), Error> {
        Ok(())
    }
}
pub(crate) fn pod_template(_o: &Value) -> Result<String, Error> {
    Ok(String::new())
}
