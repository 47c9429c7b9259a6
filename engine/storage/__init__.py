"""The files of a study: where they are (store), what they mean (ledger), what identifies them (fingerprint)."""
