//! What outlives the process.

#[cfg(test)]
mod acknowledgements;
#[cfg(test)]
mod exchanges;
#[cfg(test)]
mod play;
#[cfg(test)]
mod sessions;
