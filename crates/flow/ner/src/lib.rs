//! Named entities in free text, by a token-classification model in the form that Hugging Face exports: what the gate's tier `detect+ner`
//! asks. No I/O: it gets the bytes of the model's files.
//!
//! [`Files`] are those of a model's folder, and have the SHA-256 that the policy names; a [`Finder`] is the model, ready to be asked.

mod files;

mod config;
mod tag;

mod vocabulary;
mod wordpiece;

mod windows;

mod finder;
#[cfg(feature = "onnx")]
mod onnx;

pub use config::Config;
pub use files::Files;
pub use finder::{Finder, Logits, is_asking};
#[cfg(feature = "onnx")]
pub use onnx::onnx_model;
pub use tag::{Entity, Tag};
pub use vocabulary::tokenizer;
pub use wordpiece::{Pieces, WordPiece};
