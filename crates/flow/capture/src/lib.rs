//! Connectors: the logs of databases become changes.
//!
//! A connector is one folder. What it hands over is [`change::Event`]; nothing outside the folder knows how the source spells it.

pub mod postgres;
