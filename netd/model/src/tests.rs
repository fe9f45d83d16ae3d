//! Tables of packet walks and properties of the plans, on the states of both engines.

mod endpoints;
mod observed;
mod problems;
mod properties;
mod routes;
mod text;
mod walks;
