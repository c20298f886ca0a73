//! Flink's logical types.
//!
//! [`LogicalType`] is the type proper, [`DataType`] adds nullability. Their text form is Flink's
//! SQL (`DECIMAL(10, 2)`, `ROW<a INT, b STRING>`), read by [`DataType::parse`] and written by
//! `Display`; it is also the wire form. [`LogicalType::to_arrow`] gives the one physical type that
//! Hurtig uses for each.

pub mod arrow_form;
mod parse;

use std::fmt;

/// The length that makes a VARCHAR a STRING and a VARBINARY BYTES.
pub const MAX_LENGTH: u32 = 2_147_483_647;

/// A type of Flink SQL without nullability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogicalType {
    /// The type of a bare NULL; not allowed in a column.
    Null,
    /// BOOLEAN
    Boolean,
    /// CHAR(n)
    Char(u32),
    /// VARCHAR(n); STRING when n is [`MAX_LENGTH`].
    Varchar(u32),
    /// BINARY(n)
    Binary(u32),
    /// VARBINARY(n); BYTES when n is [`MAX_LENGTH`].
    Varbinary(u32),
    /// DECIMAL(precision, scale)
    Decimal(u8, u8),
    /// TINYINT
    TinyInt,
    /// SMALLINT
    SmallInt,
    /// INT
    Int,
    /// BIGINT
    BigInt,
    /// FLOAT
    Float,
    /// DOUBLE
    Double,
    /// DATE
    Date,
    /// TIME(p); kept in milliseconds whatever p is.
    Time(u8),
    /// TIMESTAMP(p) without zone.
    Timestamp(u8),
    /// TIMESTAMP_LTZ(p): an instant.
    TimestampLtz(u8),
    /// INTERVAL YEAR TO MONTH, in months.
    IntervalYearMonth,
    /// INTERVAL DAY TO SECOND, in milliseconds.
    IntervalDayTime,
    /// ARRAY<t>
    Array(Box<DataType>),
    /// MAP<k, v>
    Map(Box<DataType>, Box<DataType>),
    /// MULTISET<t>
    Multiset(Box<DataType>),
    /// ROW<name type, ...>
    Row(Vec<(String, DataType)>),
}

impl LogicalType {
    /// STRING.
    pub const STRING: LogicalType = LogicalType::Varchar(MAX_LENGTH);
    /// BYTES.
    pub const BYTES: LogicalType = LogicalType::Varbinary(MAX_LENGTH);

    /// This type, nullable.
    pub fn nullable(self) -> DataType {
        DataType { logical: self, nullable: true }
    }

    /// This type, NOT NULL.
    pub fn not_null(self) -> DataType {
        DataType { logical: self, nullable: false }
    }

    /// TINYINT to BIGINT.
    pub fn is_integer(&self) -> bool {
        matches!(self, Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt)
    }

    /// Integers and DECIMAL.
    pub fn is_exact_numeric(&self) -> bool {
        self.is_integer() || matches!(self, Self::Decimal(..))
    }

    /// FLOAT and DOUBLE.
    pub fn is_approximate_numeric(&self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }

    /// All numbers.
    pub fn is_numeric(&self) -> bool {
        self.is_exact_numeric() || self.is_approximate_numeric()
    }

    /// CHAR and VARCHAR.
    pub fn is_string(&self) -> bool {
        matches!(self, Self::Char(_) | Self::Varchar(_))
    }

    /// BINARY and VARBINARY.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_) | Self::Varbinary(_))
    }

    /// TIMESTAMP and TIMESTAMP_LTZ.
    pub fn is_timestamp(&self) -> bool {
        matches!(self, Self::Timestamp(_) | Self::TimestampLtz(_))
    }

    /// DATE, TIME and timestamps.
    pub fn is_temporal(&self) -> bool {
        self.is_timestamp() || matches!(self, Self::Date | Self::Time(_))
    }

    /// Both interval types.
    pub fn is_interval(&self) -> bool {
        matches!(self, Self::IntervalYearMonth | Self::IntervalDayTime)
    }
}

/// A type with nullability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DataType {
    /// The type.
    pub logical: LogicalType,
    /// Whether NULL is a value of it. Enforced at sinks only.
    pub nullable: bool,
}

impl DataType {
    /// The same type with the given nullability.
    pub fn with_nullable(&self, nullable: bool) -> DataType {
        DataType { logical: self.logical.clone(), nullable }
    }

    /// Reads the text form, as `DECIMAL(10, 2) NOT NULL`.
    ///
    /// # Errors
    /// [`crate::GraphError::Type`] when the text is not a type.
    pub fn parse(text: &str) -> Result<DataType, crate::GraphError> {
        parse::parse(text)
    }
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Char(n) => write!(f, "CHAR({n})"),
            Self::Varchar(MAX_LENGTH) => f.write_str("STRING"),
            Self::Varchar(n) => write!(f, "VARCHAR({n})"),
            Self::Binary(n) => write!(f, "BINARY({n})"),
            Self::Varbinary(MAX_LENGTH) => f.write_str("BYTES"),
            Self::Varbinary(n) => write!(f, "VARBINARY({n})"),
            Self::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Date => f.write_str("DATE"),
            Self::Time(p) => write!(f, "TIME({p})"),
            Self::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            Self::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            Self::IntervalYearMonth => f.write_str("INTERVAL MONTH"),
            Self::IntervalDayTime => f.write_str("INTERVAL SECOND(3)"),
            Self::Array(t) => write!(f, "ARRAY<{t}>"),
            Self::Map(k, v) => write!(f, "MAP<{k}, {v}>"),
            Self::Multiset(t) => write!(f, "MULTISET<{t}>"),
            Self::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, (name, ty)) in fields.iter().enumerate() {
                    let separator = if i == 0 { "" } else { ", " };
                    write!(f, "{separator}`{}` {ty}", name.replace('`', "``"))?;
                }
                f.write_str(">")
            }
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.logical)?;
        if !self.nullable {
            f.write_str(" NOT NULL")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in [
            "BOOLEAN",
            "CHAR(0)",
            "CHAR(3)",
            "VARCHAR(7)",
            "STRING",
            "BYTES",
            "BINARY(2)",
            "VARBINARY(9)",
            "DECIMAL(38, 6)",
            "TINYINT",
            "SMALLINT",
            "INT",
            "BIGINT NOT NULL",
            "FLOAT",
            "DOUBLE",
            "DATE",
            "TIME(0)",
            "TIMESTAMP(3) NOT NULL",
            "TIMESTAMP_LTZ(9)",
            "INTERVAL MONTH",
            "INTERVAL SECOND(3)",
            "CHAR(0)",
            "VARCHAR(0)",
            "ARRAY<INT NOT NULL>",
            "MAP<STRING, BIGINT> NOT NULL",
            "MULTISET<STRING>",
            "ROW<`a` INT, `b c` ROW<`x` ARRAY<STRING>> NOT NULL>",
        ] {
            assert_eq!(DataType::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_spellings_are_read() {
        for (text, canonical) in [
            ("integer", "INT"),
            ("varchar", "VARCHAR(1)"),
            ("numeric(4)", "DECIMAL(4, 0)"),
            ("decimal", "DECIMAL(10, 0)"),
            ("double precision", "DOUBLE"),
            ("timestamp", "TIMESTAMP(6)"),
            ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("timestamp_ltz", "TIMESTAMP_LTZ(6)"),
            ("int array", "ARRAY<INT>"),
            ("row(a int, b string not null)", "ROW<`a` INT, `b` STRING NOT NULL>"),
            ("INTERVAL DAY TO SECOND(3)", "INTERVAL SECOND(3)"),
            ("INTERVAL YEAR TO MONTH", "INTERVAL MONTH"),
        ] {
            assert_eq!(DataType::parse(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn bad_types_are_refused() {
        for text in
            ["", "FOO", "DECIMAL(39, 0)", "DECIMAL(4, 5)", "ARRAY<", "INT INT", "TIMESTAMP(10)", "CHAR(3000000000)"]
        {
            assert!(DataType::parse(text).is_err(), "{text}");
        }
    }
}
