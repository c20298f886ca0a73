//! Scalar functions that the program around Hurtig has registered: their signatures. What they
//! compute is registered with the TaskManagers.

use std::collections::BTreeMap;

use hurtig_graph::DataType;

/// What a user-defined scalar function takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSignature {
    /// Types of the arguments; what is passed is cast implicitly, where that is allowed.
    pub arguments: Vec<DataType>,
    /// Type of the result.
    pub result: DataType,
}

/// Signatures by name. Names are case-insensitive; built-in functions come first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFunctions {
    by_name: BTreeMap<String, FunctionSignature>,
}

impl UserFunctions {
    /// Adds a function, or replaces the one of that name.
    pub fn register(&mut self, name: &str, signature: FunctionSignature) {
        self.by_name.insert(name.to_uppercase(), signature);
    }

    /// The function of an upper-case name.
    pub fn get(&self, name: &str) -> Option<&FunctionSignature> {
        self.by_name.get(name)
    }
}
