//! The cluster's name server, as every node has one.
