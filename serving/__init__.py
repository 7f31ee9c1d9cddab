"""What we do about a reply: take it in, keep the opt-out list, tell the sending platform, ask a person."""
