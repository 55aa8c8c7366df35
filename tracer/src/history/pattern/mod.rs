pub mod chance;
pub mod periodic;
pub mod series;
