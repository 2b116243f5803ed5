from standin import *  # noqa: F403
