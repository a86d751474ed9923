use super::*;

#[test]
fn one_table_says_everything() {
    let error = DecodeError::StringNotUtf8;
    assert_eq!(error.clause(Version::V5), "v5 [MQTT-1.5.4-1]");
    assert_eq!(error.clause(Version::V311), "v3.1.1 [MQTT-1.5.3-1]");
    assert_eq!(
        error.to_string(),
        "string is not UTF-8 (v5 [MQTT-1.5.4-1], v3.1.1 [MQTT-1.5.3-1])"
    );
    let error = DecodeError::PropertyRepeated(0x1F);
    assert_eq!(
        error.to_string(),
        "property given twice: 0x1f (v5 section 2.2.2.2)"
    );
    assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
    // A topic error says the same alone and inside.
    let error = TopicError::ShareName;
    assert_eq!(DecodeError::Topic(error).to_string(), error.to_string());
    assert_eq!(
        DecodeError::TopicAliasZero.reason_code(),
        ReasonCode::TopicAliasInvalid
    );
    assert_eq!(
        DecodeError::PacketTooLarge.reason_code(),
        ReasonCode::PacketTooLarge
    );
}

#[test]
fn errors_stay_small() {
    assert!(size_of::<DecodeError>() <= 8);
}
