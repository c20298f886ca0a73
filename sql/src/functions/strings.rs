//! String, regular-expression, hashing, encoding and URL functions.

use hurtig_graph::{Expr, LogicalType as T};

use super::{Arg, Signature, type_of};
use crate::binder::length;

fn text(_: &[Expr]) -> T {
    T::STRING
}

fn int(_: &[Expr]) -> T {
    T::Int
}

fn boolean(_: &[Expr]) -> T {
    T::Boolean
}

fn first(arguments: &[Expr]) -> T {
    type_of(arguments, 0)
}

/// VARCHAR of the length of the first argument.
fn varchar(arguments: &[Expr]) -> T {
    T::Varchar(length(&type_of(arguments, 0)))
}

fn strings(_: &[Expr]) -> T {
    T::Array(Box::new(T::STRING.nullable()))
}

fn overlaid(arguments: &[Expr]) -> T {
    T::Varchar(length(&type_of(arguments, 0)).saturating_add(length(&type_of(arguments, 1))).min(length(&T::STRING)))
}

use Arg::{Any, Binary, Int, Long, Text, TextOrBinary, TextOrInt};

pub(super) const FUNCTIONS: &[Signature] = &[
    Signature::new("UPPER", &[Text], first),
    Signature::new("LOWER", &[Text], first),
    Signature::new("INITCAP", &[Text], first),
    Signature::new("CHAR_LENGTH", &[Text], int),
    Signature::new("CHARACTER_LENGTH", &[Text], int).kernel("CHAR_LENGTH"),
    Signature::new("CONCAT", &[Text], text).and_more(Text),
    Signature::new("CONCAT_WS", &[Text, Text], text).and_more(Text).nullable_by_first(),
    Signature::new("SUBSTRING", &[Text, Int, Int], varchar).optional(1).nullable(),
    Signature::new("SUBSTR", &[Text, Int, Int], varchar).optional(1).nullable().kernel("SUBSTRING"),
    Signature::new("LEFT", &[Text, Int], varchar).nullable(),
    Signature::new("RIGHT", &[Text, Int], varchar).nullable(),
    Signature::new("POSITION", &[Text, Text, Int], int).optional(1),
    Signature::new("LOCATE", &[Text, Text, Int], int).optional(1).kernel("POSITION"),
    Signature::new("INSTR", &[Text, Text, Int, Int], int).optional(2),
    Signature::new("LPAD", &[Text, Int, Text], text),
    Signature::new("RPAD", &[Text, Int, Text], text),
    Signature::new("REPEAT", &[Text, Int], text),
    Signature::new("REVERSE", &[Text], text).nullable(),
    Signature::new("REPLACE", &[Text, Text, Text], text),
    Signature::new("OVERLAY", &[Text, Text, Int, Int], overlaid).optional(1),
    Signature::new("TRANSLATE", &[Text, Text, Text], text),
    Signature::new("SPLIT_INDEX", &[Text, TextOrInt, Int], text).nullable(),
    Signature::new("SPLIT", &[Text, Text], strings),
    Signature::new("ASCII", &[Text], int),
    Signature::new("CHR", &[Long], text).nullable(),
    Signature::new("STARTSWITH", &[TextOrBinary, TextOrBinary], boolean),
    Signature::new("ENDSWITH", &[TextOrBinary, TextOrBinary], boolean),
    Signature::new("IS_ALPHA", &[Text], boolean),
    Signature::new("IS_DIGIT", &[Text], boolean),
    Signature::new("IS_DECIMAL", &[Text], boolean),
    Signature::new("REGEXP", &[Text, Text], boolean),
    Signature::new("REGEXP_REPLACE", &[Text, Text, Text], text),
    Signature::new("REGEXP_EXTRACT", &[Text, Text, Int], text).optional(1).nullable(),
    Signature::new("REGEXP_EXTRACT_ALL", &[Text, Text, Int], strings).optional(1).nullable(),
    Signature::new("REGEXP_COUNT", &[Text, Text], int).nullable(),
    Signature::new("REGEXP_INSTR", &[Text, Text], int).nullable(),
    Signature::new("REGEXP_SUBSTR", &[Text, Text], text).nullable(),
    Signature::new("JSON_QUOTE", &[Text], text),
    Signature::new("JSON_UNQUOTE", &[Text], text),
    Signature::new("MD5", &[TextOrBinary], |_| T::Char(32)),
    Signature::new("SHA1", &[TextOrBinary], |_| T::Char(40)),
    Signature::new("SHA224", &[TextOrBinary], |_| T::Char(56)),
    Signature::new("SHA256", &[TextOrBinary], |_| T::Char(64)),
    Signature::new("SHA384", &[TextOrBinary], |_| T::Char(96)),
    Signature::new("SHA512", &[TextOrBinary], |_| T::Char(128)),
    Signature::new("SHA2", &[TextOrBinary, Int], |_| T::Varchar(128)),
    Signature::new("TO_BASE64", &[TextOrBinary], text),
    Signature::new("FROM_BASE64", &[Text], text),
    Signature::new("ENCODE", &[Text, Text], |_| T::BYTES),
    Signature::new("DECODE", &[Binary, Text], text),
    Signature::new("URL_ENCODE", &[Text], text).nullable(),
    Signature::new("URL_DECODE", &[Text], text).nullable(),
    Signature::new("PARSE_URL", &[Text, Text, Text], text).optional(1).nullable(),
    Signature::new("PRINTF", &[Text], text).and_more(Any).nullable(),
    Signature::new("STR_TO_MAP", &[Text, Text, Text], |_| {
        T::Map(Box::new(T::STRING.nullable()), Box::new(T::STRING.nullable()))
    })
    .optional(2)
    .nullable(),
];
