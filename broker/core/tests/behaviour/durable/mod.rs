//! What outlives the process.

#[cfg(test)]
mod exchanges;
#[cfg(test)]
mod play;
