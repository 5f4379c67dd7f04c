//! What is to be had here.
