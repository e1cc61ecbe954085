"""Operations that are recognised in a user's network, with the mistakes that are typical for each."""
