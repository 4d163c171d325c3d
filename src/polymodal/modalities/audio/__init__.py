"""Sounds: read into log-mel bands or MFCCs, augment, encode."""
