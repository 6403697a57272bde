//! Push and pull: the three promises live here.
