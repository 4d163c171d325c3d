"""Ways of joining the streams of several inputs into one."""
