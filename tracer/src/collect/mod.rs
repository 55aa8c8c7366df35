//! Drains the ring buffer and turns kernel records into model events.
