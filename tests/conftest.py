import signal


def pytest_configure():
    # A shell starts background jobs with SIGINT ignored, and nohup with SIGHUP; children inherit that.
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)
