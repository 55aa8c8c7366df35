//! Evidence to verdict. Pure and table-driven.
