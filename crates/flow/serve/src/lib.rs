//! Read paths over the lake.
