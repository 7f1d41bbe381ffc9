//! The connectors against real servers that the tests start themselves.

mod replay;

mod follow;
