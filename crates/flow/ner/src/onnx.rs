//! Runs an ONNX model with tract, on the thread that asks: no thread of its own, nothing random, so the same pieces have the same logits on the
//! same machine.

use std::sync::Arc;

use change::{Error, Kind, Result};
use gate::NotSearched;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, Factoid};

use crate::files::MODEL;
use crate::{Files, Logits};

/// A model that is ready to run.
pub(crate) struct Onnx {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Input>,
    /// Whether a number is of 32 bits, for each input.
    narrow: Vec<bool>,
    /// The model reads exactly so many pieces at once; `None` when any number.
    length: Option<usize>,
    labels: usize,
}

/// What a model wants to know of each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Ids,
    Mask,
    Types,
}

impl Input {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "input_ids" => Input::Ids,
            "attention_mask" => Input::Mask,
            "token_type_ids" => Input::Types,
            _ => return None,
        })
    }
}

/// The model of a folder alone, which gives so many labels.
///
/// # Errors
/// `Config` when it cannot be read or prepared.
pub fn onnx_model(files: &Files, labels: usize) -> Result<impl Logits + use<>> {
    Onnx::load(files, labels)
}

impl Onnx {
    /// Reads and prepares a model that gives so many labels.
    ///
    /// # Errors
    /// `Config` when it is no model of BERT's kind, or asks what tract does not have.
    pub(crate) fn load(files: &Files, labels: usize) -> Result<Self> {
        let bytes = files.get(MODEL).unwrap_or_default();
        // Sizes that an export writes down for the pieces of one run are none of the others'.
        let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let mut model = reader.model_for_read(&mut &*bytes).map_err(|error| wrong("cannot be read", error))?;
        let any_length = model.symbols.sym("pieces");
        let (mut inputs, mut narrow, mut length) = (Vec::new(), Vec::new(), None);
        for (number, outlet) in model.inputs.clone().into_iter().enumerate() {
            let name = model.node(outlet.node).name.clone();
            let input = Input::named(&name).ok_or_else(|| {
                let what = format!("{MODEL} wants `{name}`; input_ids, attention_mask and token_type_ids are known");
                Error::new(Kind::Config, what).fix("Use a model of BERT's family (BERT, DistilBERT, ELECTRA, MiniLM).")
            })?;
            let fact = model.input_fact(number).map_err(|error| wrong("cannot be read", error))?;
            let fixed = fact.shape.dim(1).and_then(|dim| dim.concretize()).and_then(|dim| dim.to_usize().ok());
            let is_narrow = fact.datum_type.concretize() == Some(i32::datum_type());
            length = length.or(fixed);
            let size = fixed.map_or_else(|| any_length.to_dim(), |fixed| fixed.to_dim());
            let numbers = if is_narrow { i32::datum_type() } else { i64::datum_type() };
            let fact = InferenceFact::dt_shape(numbers, tvec!(1.to_dim(), size));
            model.set_input_fact(number, fact).map_err(|error| wrong("cannot be read", error))?;
            inputs.push(input);
            narrow.push(is_narrow);
        }
        if !inputs.contains(&Input::Ids) || length.is_some() && !inputs.contains(&Input::Mask) {
            let what = format!("{MODEL} has no input `input_ids`, or reads a fixed length without an `attention_mask`");
            return Err(Error::new(Kind::Config, what)
                .fix("Export it again with `optimum-cli export onnx --task token-classification`."));
        }
        model.select_outputs_by_name(["logits"]).map_err(|error| wrong("has no output `logits`", error))?;
        let ready = model.into_optimized().and_then(|model| model.into_runnable());
        let plan = ready.map_err(|error| wrong("cannot be prepared", error))?;
        Ok(Self { plan, inputs, narrow, length, labels })
    }

    /// The most pieces that it reads at once.
    pub(crate) fn pieces_max(&self) -> usize {
        self.length.unwrap_or(usize::MAX)
    }

    fn run(&self, ids: &[u32]) -> TractResult<Vec<f32>> {
        let length = self.length.unwrap_or(ids.len());
        let value = |input: &Input, at: usize| match (input, ids.get(at)) {
            (Input::Ids, Some(id)) => i64::from(*id),
            (Input::Mask, Some(_)) => 1,
            _ => 0,
        };
        let tensor = |(input, narrow): (&Input, &bool)| {
            let values: Vec<i64> = (0..length).map(|at| value(input, at)).collect();
            let tensor = Tensor::from_shape(&[1, length], &values)?;
            Ok(if *narrow { tensor.cast_to::<i32>()?.into_owned() } else { tensor }.into_tvalue())
        };
        let inputs = self.inputs.iter().zip(&self.narrow).map(tensor).collect::<TractResult<TVec<TValue>>>()?;
        let outputs = self.plan.run(inputs)?;
        let logits = outputs[0].cast_to::<f32>()?;
        let all = logits.try_as_plain_ram()?.as_slice::<f32>()?;
        // Behind the pieces stands what fills the fixed length.
        let own = if logits.shape() == [1, length, self.labels] { ids.len() * self.labels } else { 0 };
        Ok(all[..own].to_vec())
    }
}

impl Logits for Onnx {
    fn logits(&self, ids: &[u32]) -> Result<Vec<f32>, NotSearched> {
        // What went wrong could name values: it is not handed on.
        self.run(ids).map_err(|_| NotSearched)
    }
}

/// Of the model alone: no text has been near it.
fn wrong(what: &str, error: TractError) -> Error {
    Error::new(Kind::Config, format!("{MODEL} {what}")).source(error.into_boxed_dyn_error()).fix(
        "Use a model for token classification of BERT's family in one ONNX file (opset 11 to 18), in 32-bit numbers.",
    )
}
